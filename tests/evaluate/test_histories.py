"""Whole histories are learned in epochs beforehand, and the validation is only listened to."""

import dataclasses

import numpy as np
import pytest

from models.history.history import WindowPolicy
from models.towers.presets import OF_SEQUENCES
from models.training.sequence_training import Recipe
from nextwatch.evaluate import ranks
from nextwatch.evaluate.contender import TrainingData
from nextwatch.evaluate.learned import Learned
from nextwatch.evaluate.logs import ml1m
from tests.support.trial_logs import write_ml1m
from trainer.learn.registry import learner

QUICK = Recipe(num_epochs=6, batch_size=8, learning_rate=1e-2, warm_up_steps=1, dropout=0.0)


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    return ml1m.read(write_ml1m(tmp_path_factory.mktemp("ml1m")), policy=WindowPolicy())


SMALL = {"dim": 32, "hidden_dim": 32, "content_buckets": 256}


def schooled(halves, validation, name="gru4rec", tower="gru4rec"):
    config = dataclasses.replace(OF_SEQUENCES[tower].config, **SMALL)
    contender = Learned(learner(name, config, seed=0), recipe=QUICK)
    contender.prepare(TrainingData(halves.uploads, halves.histories, validation))
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


def test_a_tree_is_scored_by_what_its_beam_finds(halves):
    """Over a tower that has learned the histories, made anew of their users before it is asked."""
    contender = schooled(halves, (), name="tdm", tower="youtube_dnn")

    score_BN = contender.score(halves.tests)

    index = contender._towers._tree
    assert len(index) == len(halves.uploads)
    assert (np.isfinite(score_BN).sum(axis=1) <= index.form.shape.widths[-1] * 4).all()
    exposed = [case.exposed for case in halves.tests]
    found = ranks.rank(score_BN, [case.label for case in halves.tests], exposed)
    assert ranks.means(ranks.gains(found))["recall_at_10"] > 0.6
