"""List who takes part in a trial: the models that learn, and the baselines.

Each is made anew for a trial, by name and seed. A model is one line in
`models.towers.presets.RETRIEVERS`, or in `trainer.learn.registry`; a baseline is one line here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from models.history.history import DAY_MS, HOUR_MS
from nextwatch.evaluate.baselines.affinity import Affinity, ItemToItem, cosine, ease
from nextwatch.evaluate.baselines.cooccurrence import DirectedCooccurrence
from nextwatch.evaluate.baselines.factors import ImplicitFactors
from nextwatch.evaluate.baselines.popularity import PopularityBaseline
from nextwatch.evaluate.contender import UNTIMED, Contender

OF_YEARS = ("movielens",)
"""Sources whose logs last for years: a generation lasts a day of the log there, else an hour."""


Start = Literal["histories", "windows", "nothing"]
STARTS: Sequence[Start] = ("histories", "windows", "nothing")
"""What a model knows before the log.

``histories``: what users watched before it was learned, as by ``nextwatch backfill``. ``windows``:
streams keeps the windows of these users, and the trainer starts for the first time. ``nothing``:
neither of them, and nobody is known.
"""


def timed_baselines(*, has_histories: bool = True) -> dict[str, Contender]:
    """Return the baselines for logs with times, by name."""
    of_completed = Affinity(ease)
    of_exposed = Affinity(ease, is_of_completed=False)
    baselines: dict[str, Contender] = {
        "popularity_6h": PopularityBaseline(6.0),
        "popularity_24h": PopularityBaseline(24.0),
        "popularity_72h": PopularityBaseline(72.0),
        "item_cosine": ItemToItem(Affinity(cosine)),
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


def baselines(source: str, *, start: Start = "histories") -> dict[str, Contender]:
    """Return the baselines for the log of *source*, by name."""
    if source == UNTIMED:
        return untimed_baselines()
    return timed_baselines(has_histories=has_histories(source, start))


def has_histories(source: str, start: Start) -> bool:
    """Return whether anything is known of before the log."""
    return source == "kuairand" and start != "nothing"


def baseline_names() -> frozenset[str]:
    """Return the names of all baselines."""
    return frozenset(timed_baselines()) | frozenset(untimed_baselines())


def model_names() -> Sequence[str]:
    """Return the names of the models that learn (torch)."""
    from trainer.learn.registry import NAMES  # noqa: PLC0415 - an extra

    return NAMES


def model(
    name: str,
    *,
    source: str,
    seed: int,
    overrides: Mapping[str, str],
    start: Start = "histories",
    backlog_passes: int = 0,
) -> Contender:
    """Return a new model that has learned nothing yet, for the log of *source* (torch).

    *overrides* are as `nextwatch.evaluate.settings.settings` takes them. With *backlog_passes* it
    learns what comes before the tests at once, in so many passes, as a trainer does at its first
    start with NEXTWATCH_TRAINER_BACKFILL_PASSES. Where *start* is ``windows`` it learns from those
    of as many users, and in as many passes, as a trainer with the settings of this environment.

    Raises:
        ValueError: there is no such model, or *overrides* has what its settings refuse.
    """
    from nextwatch.evaluate.learned import Learned  # noqa: PLC0415 - an extra
    from nextwatch.evaluate.settings import settings  # noqa: PLC0415
    from trainer.learn.registry import learner  # noqa: PLC0415
    from trainer.settings import TrainerSettings  # noqa: PLC0415

    if name not in model_names():
        known = ", ".join(sorted({*model_names(), *baseline_names()}))
        raise ValueError(f"unknown model {name!r}; known: {known}")
    config, recipe = settings(name, source, overrides)
    generation_ms = DAY_MS if source in OF_YEARS else HOUR_MS
    backlog = replace(recipe, num_epochs=backlog_passes) if backlog_passes else None
    most = None
    if start == "windows":
        trainer = TrainerSettings()
        most = trainer.backfill_users
        recipe = replace(recipe, num_epochs=max(1, trainer.backfill_passes))
    return Learned(
        learner(name, config, seed=seed),
        recipe=None if most == 0 else recipe,
        most=most,
        generation_ms=generation_ms,
        backlog=backlog,
    )
