"""Whole histories are learned in epochs beforehand, and the validation is only listened to."""

import dataclasses

import numpy as np
import pytest

from models.history import WindowPolicy
from models.presets import OF_SEQUENCES, SequencePreset
from models.sequence_training import Recipe
from nextwatch.evaluate import ml1m, ranks, sequences
from tests.evaluate.trials import write_ml1m

QUICK = Recipe(num_epochs=6, batch_size=8, learning_rate=1e-2, warm_up_steps=1, dropout=0.0)


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    return ml1m.read(write_ml1m(tmp_path_factory.mktemp("ml1m")), policy=WindowPolicy())


def schooled(halves, validation):
    config = dataclasses.replace(
        OF_SEQUENCES["gru4rec"].config, dim=32, hidden_dim=32, content_buckets=256
    )
    contender = sequences.Schooled(SequencePreset(config, QUICK), seed=0)
    contender.prepare(halves.uploads, halves.histories, validation)
    return contender


@pytest.fixture(scope="module")
def listening(halves):
    return schooled(halves, halves.validation)


def test_it_finds_the_film_that_follows(halves, listening):
    """Film n is mostly followed by n + 1: the exported tower finds it far above chance."""
    score_BN = listening.score(halves.tests)

    exposed = [case.exposed for case in halves.tests]
    found = ranks.rank(score_BN, [case.label for case in halves.tests], exposed)
    assert ranks.means(ranks.gains(found))["recall_at_10"] > 0.6


def test_every_epoch_is_noted_with_what_the_validation_says_of_it(listening):
    """The curve is there for whoever chooses the number of epochs, and it moves."""
    said = [one.validation["mrr"] for one in listening.epochs]

    assert [one.number for one in listening.epochs] == [1, 2, 3, 4, 5, 6]
    assert listening.epochs[-1].loss < listening.epochs[0].loss
    assert len(set(said)) > 1


def test_listening_to_the_validation_changes_nothing_that_is_learned(halves, listening):
    """With it or without it, the same vectors are served."""
    deaf = schooled(halves, ())

    np.testing.assert_array_equal(deaf.score(halves.tests), listening.score(halves.tests))


def test_settings_of_the_model_and_of_the_recipe_are_taken_as_text():
    """The preset holds for everything that is not said."""
    changed = sequences.model(
        "sasrec", seed=0, overrides={"dim": "32", "recipe.num_epochs": "3"}
    )._preset

    preset = OF_SEQUENCES["sasrec"]
    assert changed.config == dataclasses.replace(preset.config, dim=32)
    assert changed.recipe == dataclasses.replace(preset.recipe, num_epochs=3)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("gru5rec", {}, "unknown model 'gru5rec'; known: dssm, gru4rec"),
        ("sasrec", {"recipe.epochs": "3"}, "unknown settings: epochs; known: .*num_epochs"),
        ("sasrec", {"dim": "wide"}, "Expected `int`"),
        ("sasrec", {"recipe.num_epochs": "0"}, "num_epochs must be at least 1, got 0"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(name, overrides, message):
    """Before anything is read or learned."""
    with pytest.raises(ValueError, match=message):
        sequences.model(name, seed=0, overrides=overrides)
