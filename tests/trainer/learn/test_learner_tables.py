"""Rows of a learner: admitted, mended, expired, and given to other videos at the ceiling."""

import dataclasses

import numpy as np
import pytest
import torch

from models.features.examples import Example
from models.history.history import DAY_MS, EMPTY, WindowPolicy, fold
from models.training.embedding_table import SIGNIFICANT_MOVE
from tests.support.builders import T0, upload, watch
from tests.support.bundles import SMALL, catalogue, learner_of, no_features
from trainer.evaluate.popularity import Viewing
from trainer.learn.learner import Learner


def example(watched, *, label, user_id="u", at_ms=100):
    window = fold(EMPTY, [watch(watched, at_ms=0)], WindowPolicy())
    return Example(user_id, window, label, T0 + at_ms)


def tastes(count, *, seed=0):
    """Return examples in which a random video of a taste follows one of another."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return [
        example(f"cooking{rng.integers(5)}", label=f"trains{rng.integers(5)}", at_ms=100 + n)
        for n in range(count)
    ]


def test_one_row_that_is_not_finite_ends_neither_learning_nor_publishing():
    """It is reset, the next step learns, and a generation has no vector that is not finite."""
    learner = learner_of(catalogue())
    learner.learn(learner.encode(tastes(16)))
    row = learner.vocabulary.row("chess0")
    learner._model.ids.weight_ND[row, 3] = torch.nan
    learner._vectors = None

    first = learner.learn(learner.encode([example("chess0", label="chess1")] * 16))
    before = learner._model.ids.weight_ND.clone()
    then = learner.learn(learner.encode([example("chess0", label="chess1")] * 16))

    assert not np.isfinite(first)
    assert np.isfinite(then)
    assert not torch.equal(learner._model.ids.weight_ND, before)
    assert np.isfinite(learner.snapshot(no_features(learner)).output_ND).all()


@pytest.mark.parametrize("table", ["ids", "content"])
def test_a_generation_starts_without_rows_that_are_not_finite(table):
    """A row that no step reads would keep every bundle from being written."""
    learner = learner_of(catalogue())
    getattr(learner._model, table).weight_ND[7] = torch.inf

    learner.freeze(1)

    assert np.isfinite(learner.snapshot(no_features(learner)).output_ND).all()
    assert learner._model.is_finite


def test_a_video_that_nobody_watched_has_the_vector_of_its_content():
    """In the snapshot, and in the space in service, though it was drawn as a negative often."""
    learner = learner_of([*catalogue(), upload("unwatched", category="chess")])
    learner.freeze(1)
    place = learner.video_ids.index("unwatched")
    content_D = learner.snapshot(no_features(learner)).output_ND[place]

    for n in range(10):
        learner.learn(learner.encode(tastes(16, seed=n)))

    _, in_service_1D = learner.vectors(["unwatched"], generation=1)
    np.testing.assert_allclose(in_service_1D[0], content_D, atol=1e-6)
    assert not learner._model.ids.weight_ND[place + 1].any()


def test_a_watch_that_was_not_completed_admits_its_video():
    """To be shown and left is something that an embedding can learn from."""
    learner = learner_of(catalogue())
    learner.count([Viewing("trains3", T0, 3_000, is_completed=False)])

    for n in range(4):
        learner.learn(learner.encode([example("chess0", label="chess1", at_ms=n)] * 16))

    assert learner._model.ids.weight_ND[learner.vocabulary.row("trains3")].any()


def test_negatives_are_touched_once_they_have_moved_far_enough():
    """An index that keeps their old vectors would disagree with the next snapshot."""
    learner = learner_of(catalogue())
    learner.count([Viewing("trains3", T0, 3_000, is_completed=False)])
    learner.drain_touched()
    row, touched = learner.vocabulary.row("trains3"), set()

    for n in range(40):
        before = float(learner._model.ids.moved_N[row])
        learner.learn(learner.encode([example("chess0", label="chess1", at_ms=n)] * 16))
        touched |= learner.drain_touched()
        if "trains3" in touched:
            break
        assert before <= float(learner._model.ids.moved_N[row]) < SIGNIFICANT_MOVE

    assert "trains3" in touched


def test_an_embedding_that_nobody_needs_expires_with_a_generation():
    """The video is what its content says again, and its vector is published."""
    learner = learner_of(catalogue(), dataclasses.replace(SMALL, id_expiry_ms=DAY_MS))
    examples = [example("chess0", label="chess1", at_ms=n) for n in range(16)]
    learner.learn(learner.encode(examples))
    learner.count([Viewing("chess1", T0, 60_000, is_completed=True)])
    row = learner.vocabulary.row("chess1")
    assert learner._model.ids.weight_ND[row].any()
    learner.drain_touched()

    late = [example("cooking0", label="cooking1", at_ms=2 * DAY_MS + n) for n in range(16)]
    learner.learn(learner.encode(late))
    learner.freeze(1)

    assert not learner._model.ids.weight_ND[row].any()
    assert "chess1" in learner.drain_touched()


def test_a_row_that_is_given_again_has_nothing_of_the_former_video():
    """Embedding, label count, live signals and replayed examples."""
    learner = learner_of(catalogue(), dataclasses.replace(SMALL, max_videos=20))
    learner.learn(learner.encode([example("chess0", label="cooking0")] * 16))
    learner.count([Viewing("cooking0", T0, 60_000, is_completed=True)])
    learner.remove("cooking0")
    row = learner.vocabulary.row("cooking0")

    learner.upload(upload("newcomer", category="trains"))

    assert learner.vocabulary.row("newcomer") == row
    assert not learner._model.ids.weight_ND[row].any()
    assert not learner._frequency.counts(np.array([row])).any()
    assert not learner._signals.signals(np.array([row])).any()
    assert not (learner._replay.arrays["label_rows"] == row).any()
    assert not (learner._replay.arrays["watch_rows"] == row).any()


def test_learning_goes_on_while_videos_pass_through_a_ceiling():
    """Ten times as many videos as rows; a restart in between goes on bit for bit."""
    config = dataclasses.replace(SMALL, max_videos=32)
    learner = Learner(config, seed=0)
    for n in range(160):
        learner.upload(upload(f"v{n}"))
        watched, label = f"v{max(n - 1, 0)}", f"v{n}"
        assert np.isfinite(learner.learn(learner.encode([example(watched, label=label, at_ms=n)])))
        learner.count([Viewing(label, T0 + n, 60_000, is_completed=True)])
    other = Learner(config, seed=9)
    other.load_state(*learner.state())

    for n in range(160, 320):
        for one in (learner, other):
            one.upload(upload(f"v{n}"))
            one.learn(one.encode([example(f"v{n - 1}", label=f"v{n}", at_ms=n)]))

    (arrays, meta), (other_arrays, other_meta) = learner.state(), other.state()
    assert meta == other_meta
    assert len(learner.video_ids) == 32
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, other_arrays[name], name)
