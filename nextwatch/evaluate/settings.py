"""Choose the settings of a model for a log, and of learning its histories (torch).

Each starts from what `models.towers.presets` says of it; what a trial changes is given as text.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import NamedTuple, TypeVar, get_type_hints

import msgspec

from models.towers.presets import OF_SEQUENCES
from models.training.config import TowerConfig
from models.training.sequence_training import Recipe
from nextwatch.evaluate.contender import UNTIMED
from trainer.input import backfill
from trainer.learn.registry import config_of, tower_of

RECIPES: Mapping[str, Recipe] = {"kuairand": replace(backfill.RECIPE, num_epochs=2)}
"""How histories are learned, by source: as by ``nextwatch backfill``, in its two passes."""

OF_RECIPE = "recipe."

_Settings = TypeVar("_Settings", TowerConfig, Recipe)


class ModelSettings(NamedTuple):
    """The settings of a model, and of learning histories."""

    config: TowerConfig
    recipe: Recipe


def settings(name: str, source: str, overrides: Mapping[str, str]) -> ModelSettings:
    """Return the settings of model *name* for the log of *source*.

    *overrides* are fields of `TowerConfig`, or of `Recipe` behind ``recipe.``, as text.

    Raises:
        ValueError: there is no such model or field, or it does not take the value.
    """
    if source == UNTIMED:
        config, recipe = OF_SEQUENCES[tower_of(name)]
    else:
        config, recipe = config_of(name), RECIPES.get(source, Recipe())
    of_recipe = {key: value for key, value in overrides.items() if key.startswith(OF_RECIPE)}
    of_config = {key: value for key, value in overrides.items() if key not in of_recipe}
    bare = {key.removeprefix(OF_RECIPE): value for key, value in of_recipe.items()}
    return ModelSettings(_changed(config, of_config), _changed(recipe, bare))


def _changed(whole: _Settings, given: Mapping[str, str]) -> _Settings:
    """Return *whole* with the fields that are *given* as text."""
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
