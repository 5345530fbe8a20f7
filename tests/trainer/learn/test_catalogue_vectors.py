"""Kept vectors are those of the learner where the budget allows it, and cost no more than it."""

import dataclasses

import numpy as np
import pytest

from models.history.history import EMPTY
from tests.support.builders import upload
from tests.support.bundles import SMALL, catalogue, learner_of
from tests.trainer.learn.test_learner import batches, pairs

PLAIN = dataclasses.replace(SMALL, has_live_signals=False)


@pytest.mark.parametrize("config", [SMALL, PLAIN])
def test_a_catalogue_that_is_paid_for_has_the_similarity_of_the_moment(config):
    """Nothing of the metrics changes where the catalogue is small."""
    learner = learner_of(catalogue(), config)
    for batch in batches(pairs(64)):
        encoded = learner.encode(batch)
        kept = learner.kept_similarity(encoded, most=20)

        np.testing.assert_allclose(kept, learner.similarity(encoded), atol=1e-6)
        learner.learn(encoded)


def test_a_batch_computes_no_more_vectors_than_it_pays_for():
    """An upload between two batches does not compute the catalogue, nor does learning."""
    learner = learner_of(catalogue())
    learner.kept_similarity(learner.encode(pairs(1)), most=20)  # the first needs all
    computed = [learner.catalogue_vectors.num_renewed]
    for number, batch in enumerate(batches(pairs(64))):
        learner.learn(learner.encode(batch))
        learner.upload(upload(f"new{number}"))
        learner.kept_similarity(learner.encode(batch), most=6)
        computed.append(learner.catalogue_vectors.num_renewed)

    assert np.diff(computed).tolist() == [3, 3, 3, 3]


def test_a_new_video_has_its_vector_in_the_next_batch():
    learner = learner_of(catalogue())
    learner.kept_similarity(learner.encode(pairs(1)), most=20)
    learner.upload(upload("new", category="chess", tags=("chess",)))
    encoded = learner.encode(pairs(8))

    kept = learner.kept_similarity(encoded, most=8)

    np.testing.assert_allclose(kept[:, -1], learner.similarity(encoded)[:, -1], atol=1e-6)


def test_what_is_saved_pays_for_the_whole_catalogue_in_the_end():
    """With two videos a batch and twenty in all, the tenth batch is as of its own moment."""
    learner = learner_of(catalogue())
    learner.kept_similarity(learner.encode(pairs(1)), most=20)
    differences = []
    for batch in batches(pairs(16 * 10)):
        learner.learn(learner.encode(batch))
        encoded = learner.encode(batch)
        kept = learner.kept_similarity(encoded, most=4)
        differences.append(np.abs(kept - learner.similarity(encoded)).max())

    assert min(differences[:-1]) > 1e-3
    assert differences[-1] < 1e-6


def test_touched_videos_are_renewed_in_turn():
    """None waits for ever because others are touched again and again."""
    learner = learner_of(catalogue(), PLAIN)
    encoded = learner.encode(pairs(16))
    learner.kept_similarity(encoded, most=20)
    learner._model.ids.weight_ND[1:21] = 0.5
    learner.catalogue_vectors.touch(np.arange(1, 21))
    before = learner.catalogue_vectors._output_NE.copy()
    for _ in range(5):
        learner.catalogue_vectors.touch(np.arange(1, 9))
        learner.kept_similarity(encoded, most=8)
        learner.catalogue_vectors._saved = 0  # not all at once

    moved = np.abs(learner.catalogue_vectors._output_NE[: len(before)] - before).max(axis=1) > 0
    assert moved[1:21].all()


def test_users_without_a_watch_have_a_similarity_too():
    """The first examples of a new user have an empty window."""
    learner = learner_of(catalogue())
    nobody = learner.encode([pairs(1)[0]._replace(window=EMPTY)])

    np.testing.assert_allclose(
        learner.kept_similarity(nobody, most=20), learner.similarity(nobody), atol=1e-6
    )


def test_user_vectors_need_no_vectors_of_other_videos():
    """With and without the catalogue at hand they are the same."""
    learner = learner_of(catalogue())
    learner.learn(learner.encode(pairs(16)))
    users, rows = learner.encode(pairs(8, seed=3)).users, np.array([2, 7])
    alone = learner.user_vectors(users), learner.output_vectors(rows)
    _, output_ND = learner._all_vectors()

    np.testing.assert_allclose(alone[0], learner.user_vectors(users), atol=1e-6)
    np.testing.assert_allclose(alone[1], output_ND[rows], atol=1e-6)
