"""A model of a trial is its preset, with what the trial changes."""

import dataclasses

import pytest

from models.towers.presets import OF_SEQUENCES, RETRIEVERS
from nextwatch.evaluate import entrants
from nextwatch.evaluate.settings import RECIPES, settings
from trainer.learn.registry import NAMES
from trainer.learn.tdm_learner import TdmLearner


def test_settings_of_the_model_and_of_the_recipe_are_taken_as_text():
    """The preset holds for everything that is not said."""
    changed = settings("sasrec", "ml1m", {"dim": "32", "recipe.num_epochs": "3"})

    preset = OF_SEQUENCES["sasrec"]
    assert changed.config == dataclasses.replace(preset.config, dim=32)
    assert changed.recipe == dataclasses.replace(preset.recipe, num_epochs=3)


def test_a_log_with_times_is_learned_as_the_trainer_would():
    """With a recipe of its own for what is known from before it."""
    changed = settings("dssm", "kuairand", {})

    assert changed.config == RETRIEVERS["dssm"]
    assert changed.recipe.num_epochs == RECIPES["kuairand"].num_epochs


@pytest.mark.parametrize("source", ["kuairand", "ml1m", "movielens"])
def test_every_model_of_the_trainer_takes_part(source):
    """A tree as well, over the tower that it is built on."""
    models = {name: entrants.model(name, source=source, seed=0, overrides={}) for name in NAMES}

    assert isinstance(models["tdm"].learner, TdmLearner)
    assert models["tdm"].learner.config.model == "youtube_dnn"


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("gru5rec", {}, "unknown model 'gru5rec'; known: directed_cooccurrence, dssm"),
        ("sasrec", {"recipe.epochs": "3"}, "unknown settings: epochs; known: .*num_epochs"),
        ("sasrec", {"dim": "wide"}, "Expected `int`"),
        ("sasrec", {"recipe.num_epochs": "0"}, "num_epochs must be at least 1, got 0"),
    ],
)
def test_an_unknown_name_is_rejected_with_the_known_ones(name, overrides, message):
    """Before anything is read or learned."""
    with pytest.raises(ValueError, match=message):
        entrants.model(name, source="ml1m", seed=0, overrides=overrides)
