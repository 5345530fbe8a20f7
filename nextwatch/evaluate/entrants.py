"""List who takes part in a trial: the models that learn, and the baselines.

Each is made anew for a trial, by name and seed. A model is one line in
`models.towers.presets.RETRIEVERS`, or in `trainer.learn.registry`; a baseline is one line here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from models.history.history import DAY_MS, HOUR_MS
from nextwatch.evaluate.baselines.affinity import Affinity, ItemToItem, cosine, ease
from nextwatch.evaluate.baselines.cooccurrence import DirectedCooccurrence
from nextwatch.evaluate.baselines.factors import ImplicitFactors
from nextwatch.evaluate.baselines.popularity import PopularityBaseline
from nextwatch.evaluate.contender import UNTIMED, Contender

OF_YEARS = ("movielens",)
"""Sources whose logs last for years: a generation lasts a day of the log there, else an hour."""


def timed_baselines(*, has_histories: bool = True) -> dict[str, Contender]:
    """Return the baselines for logs with times, by name.

    Where the log has no histories from before it, matrices are made of its own beginning.
    """
    is_of_log = not has_histories
    of_completed = Affinity(ease, is_of_log=is_of_log)
    of_exposed = Affinity(ease, is_of_completed=False, is_of_log=is_of_log)
    baselines: dict[str, Contender] = {
        "popularity_6h": PopularityBaseline(6.0),
        "popularity_24h": PopularityBaseline(24.0),
        "popularity_72h": PopularityBaseline(72.0),
        "item_cosine": ItemToItem(Affinity(cosine, is_of_log=is_of_log)),
        "ease": ItemToItem(of_completed),
        "ease_x_popularity_24h": ItemToItem(of_completed, half_life_h=24.0),
        "ease_exposed_x_popularity_24h": ItemToItem(of_exposed, half_life_h=24.0),
    }
    if has_histories:
        baselines |= {"popularity_frozen": PopularityBaseline(None), "ials_64": ImplicitFactors()}
    return baselines


def untimed_baselines() -> dict[str, Contender]:
    """Return the baselines for sequences without times, by name."""
    return {
        "popularity_frozen": PopularityBaseline(None),
        "ials_64": ImplicitFactors(),
        "item_cosine": ItemToItem(Affinity(cosine)),
        "ease": ItemToItem(Affinity(ease)),
        "directed_cooccurrence": DirectedCooccurrence(),
    }


def baselines(source: str, *, is_cold: bool = False) -> dict[str, Contender]:
    """Return the baselines for the log of *source*, by name; *is_cold* without its histories."""
    if source == UNTIMED:
        return untimed_baselines()
    return timed_baselines(has_histories=source == "kuairand" and not is_cold)


def baseline_names() -> frozenset[str]:
    """Return the names of all baselines."""
    return frozenset(timed_baselines()) | frozenset(untimed_baselines())


def model_names() -> Sequence[str]:
    """Return the names of the models that learn (torch)."""
    from trainer.learn.registry import NAMES  # noqa: PLC0415 - an extra

    return NAMES


def model(
    name: str, *, source: str, seed: int, overrides: Mapping[str, str], backlog_passes: int = 0
) -> Contender:
    """Return a new model that has learned nothing yet, for the log of *source* (torch).

    *overrides* are as `nextwatch.evaluate.settings.settings` takes them. With *backlog_passes* it
    learns what comes before the tests at once, in so many passes, as a trainer does at its first
    start with NEXTWATCH_TRAINER_BACKFILL_PASSES.

    Raises:
        ValueError: there is no such model, or *overrides* has what its settings refuse.
    """
    from nextwatch.evaluate.learned import Learned  # noqa: PLC0415 - an extra
    from nextwatch.evaluate.settings import settings  # noqa: PLC0415
    from trainer.learn.registry import learner  # noqa: PLC0415

    if name not in model_names():
        known = ", ".join(sorted({*model_names(), *baseline_names()}))
        raise ValueError(f"unknown model {name!r}; known: {known}")
    config, recipe = settings(name, source, overrides)
    generation_ms = DAY_MS if source in OF_YEARS else HOUR_MS
    backlog = replace(recipe, num_epochs=backlog_passes) if backlog_passes else None
    return Learned(
        learner(name, config, seed=seed),
        recipe=recipe,
        generation_ms=generation_ms,
        backlog=backlog,
    )
