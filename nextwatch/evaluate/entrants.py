"""Who takes part: the models that learn, and the baselines that they have to beat.

Each is made anew for a trial, by name and seed. A model is one line in
`models.presets.RETRIEVERS`; a baseline is one line here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import msgspec

from models.retriever import RetrieverConfig
from nextwatch.evaluate.affinity import Affinity, ItemToItem, cosine, ease
from nextwatch.evaluate.contender import Contender
from nextwatch.evaluate.cooccurrence import DirectedCooccurrence
from nextwatch.evaluate.factors import ImplicitFactors
from nextwatch.evaluate.popularity import Popularity

if TYPE_CHECKING:
    from models.sequence_training import Recipe

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "kuairand": {
        "num_epochs": 2,
        "batch_size": 96,
        "num_negatives": 1_024,
        "unfinished_share": 0.3,
        "dropout": 0.1,
    },
}
"""How histories are learned, by source: what differs from the defaults of `Recipe`."""

UNTIMED = "ml1m"
"""The source whose log has no times, so that models learn all of it beforehand."""

_RECIPE = "recipe."
_Settings = TypeVar("_Settings", RetrieverConfig, "Recipe")


def timed_baselines(*, has_histories: bool = True) -> dict[str, Contender]:
    """Return the baselines for logs with times, by name.

    Where the log has no histories from before it, matrices are made of its own beginning.
    """
    is_of_log = not has_histories
    of_completed = Affinity(ease, is_of_log=is_of_log)
    of_exposed = Affinity(ease, is_of_completed=False, is_of_log=is_of_log)
    baselines: dict[str, Contender] = {
        "popularity_6h": Popularity(6.0),
        "popularity_24h": Popularity(24.0),
        "popularity_72h": Popularity(72.0),
        "item_cosine": ItemToItem(Affinity(cosine, is_of_log=is_of_log)),
        "ease": ItemToItem(of_completed),
        "ease_x_popularity_24h": ItemToItem(of_completed, half_life_h=24.0),
        "ease_exposed_x_popularity_24h": ItemToItem(of_exposed, half_life_h=24.0),
    }
    if has_histories:
        baselines |= {"popularity_frozen": Popularity(None), "ials_64": ImplicitFactors()}
    return baselines


def untimed_baselines() -> dict[str, Contender]:
    """Return the baselines for sequences without times, by name."""
    return {
        "popularity_frozen": Popularity(None),
        "ials_64": ImplicitFactors(),
        "item_cosine": ItemToItem(Affinity(cosine)),
        "ease": ItemToItem(Affinity(ease)),
        "directed_cooccurrence": DirectedCooccurrence(),
    }


def baselines(source: str) -> dict[str, Contender]:
    """Return the baselines for the log of *source*, by name."""
    if source == UNTIMED:
        return untimed_baselines()
    return timed_baselines(has_histories=source == "kuairand")


def baseline_names() -> frozenset[str]:
    """Return the names of all baselines."""
    return frozenset(timed_baselines()) | frozenset(untimed_baselines())


def model_names() -> Sequence[str]:
    """Return the names of the models that learn (torch)."""
    from models.presets import RETRIEVERS  # noqa: PLC0415 - an extra

    return sorted(RETRIEVERS)


def model(name: str, *, source: str, seed: int, overrides: Mapping[str, str]) -> Contender:
    """Return a new model that has learned nothing yet, for the log of *source* (torch).

    Raises:
        ValueError: there is no such model, or *overrides* has what its settings refuse.
    """
    from nextwatch.evaluate import learned, sequences  # noqa: PLC0415 - an extra

    if source == UNTIMED:
        return sequences.model(name, seed=seed, overrides=overrides)
    config, recipe = settings(name, source, overrides)
    return learned.Learned(config, seed=seed, recipe=recipe)


def settings(
    name: str, source: str, overrides: Mapping[str, str]
) -> tuple[RetrieverConfig, "Recipe"]:
    """Return how model *name* is built, and how it learns the histories of *source* (torch).

    *overrides* are fields of the one, or of the other behind ``recipe.``, as text.

    Raises:
        ValueError: there is no such model or field, or it does not take the value.
    """
    from models.presets import RETRIEVERS  # noqa: PLC0415 - an extra
    from models.sequence_training import Recipe  # noqa: PLC0415

    if name not in RETRIEVERS:
        known = ", ".join(sorted({*model_names(), *baseline_names()}))
        raise ValueError(f"unknown model {name!r}; known: {known}")
    of_recipe = {
        key.removeprefix(_RECIPE): value
        for key, value in overrides.items()
        if key.startswith(_RECIPE)
    }
    of_config = {key: value for key, value in overrides.items() if not key.startswith(_RECIPE)}
    recipe = Recipe(**RECIPES.get(source, {}))
    return _changed(RETRIEVERS[name], of_config), _changed(recipe, of_recipe)


def _changed(whole: _Settings, given: Mapping[str, str]) -> _Settings:
    """Return *whole* with the fields that are *given* as text.

    Raises:
        ValueError: there is no such field, or it does not take the value.
    """
    kinds = get_type_hints(type(whole))
    known = {one.name for one in fields(whole)} - {"model"}
    if unknown := sorted(given.keys() - known):
        raise ValueError(
            f"unknown settings: {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    try:
        values = {
            name: msgspec.convert(value, kinds[name], strict=False) for name, value in given.items()
        }
    except msgspec.ValidationError as error:
        raise ValueError(f"a setting is refused: {error}") from error
    return replace(whole, **values)
