"""What is refused of a bundle, and what is not: a service may have few users or bare uploads."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from models.features.examples import Example
from models.serving.items import RANKING_FEATURE_NAMES, ItemSnapshot
from tests.support.builders import T0
from trainer.guard.checks import MIN_EXAMPLES, MIN_RANKED, Truth, changes, why_refused

NUM_VIDEOS, DIM = 2 * MIN_EXAMPLES, 8
SOME = SimpleNamespace(watches=("one",), video_ids=())
NONE = SimpleNamespace(watches=(), video_ids=())


def vectors(count, *, seed=0):
    """Return unit vectors that differ."""
    x_ND = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)


def alike(count):
    return np.ones((count, DIM), np.float32)


class Model:
    """What the checks ask of a generation."""

    def __init__(self, snapshot, *, users=vectors, mean=0.0, spread=0.2, recall=0.5):
        padding = np.zeros((1, DIM), np.float32)
        self.items = SimpleNamespace(
            inputs_ND=np.concatenate([padding, snapshot.input_ND]),
            outputs_ND=np.concatenate([padding, snapshot.output_ND]),
        )
        self._users, self._moments, self._recall = users, (mean, spread), recall

    def users(self, windows):
        return self._users(len(windows))

    def score_moments(self, windows):
        return self._moments

    def hits(self, examples):
        return np.full(len(examples), self._recall)


def snapshot(**changes):
    features = np.ones((NUM_VIDEOS, len(RANKING_FEATURE_NAMES)))
    whole = ItemSnapshot(
        [f"v{n}" for n in range(NUM_VIDEOS)], vectors(NUM_VIDEOS), vectors(NUM_VIDEOS), features
    )
    return replace(whole, **changes)


def truth(*, windows=SOME, **changes):
    examples = [Example(f"u{n}", windows, "v0", T0) for n in range(MIN_EXAMPLES)]
    whole = Truth(
        video_ids=[f"v{n}" for n in range(NUM_VIDEOS)],
        features_NF=np.ones((NUM_VIDEOS, len(RANKING_FEATURE_NAMES))),
        examples=examples,
        learner_hits_B=np.full(MIN_EXAMPLES, 0.5),
        metrics={},
        changes={},
    )
    return replace(whole, **changes)


def reason(made=None, *, candidate=None, served="the same", of=None):
    made, of = made or snapshot(), of or truth()
    candidate = candidate or Model(made)
    served = Model(snapshot()) if served == "the same" else served
    if served is not None:
        of = replace(of, changes=changes(candidate, served, of.examples))
    return why_refused(made, candidate, served, of)


def test_a_whole_bundle_passes():
    assert reason() is None
    assert reason(served=None) is None


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (snapshot(output_ND=np.full((NUM_VIDEOS, DIM), np.nan, np.float32)), "not finite"),
        (snapshot(output_ND=alike(NUM_VIDEOS)), "output vectors are collapsed"),
        (snapshot(input_ND=0.1 * vectors(NUM_VIDEOS)), "median norm of the input vectors"),
        (snapshot(features=np.zeros((NUM_VIDEOS, len(RANKING_FEATURE_NAMES)))), "stale"),
        (snapshot(video_ids=[f"other{n}" for n in range(NUM_VIDEOS)]), "are missing"),
    ],
)
def test_a_broken_snapshot_is_refused(made, told):
    assert told in reason(made)


@pytest.mark.parametrize(
    ("candidate", "told"),
    [
        ({"users": alike}, "user vectors are collapsed"),
        ({"users": lambda count: np.full((count, DIM), np.nan)}, "user vectors are not finite"),
        ({"mean": 0.7}, "the mean score is far"),
        ({"spread": 0.01}, "the spread of the scores is far"),
        ({"recall": 0.3}, "the recall of the bundle is 0.300"),
    ],
)
def test_a_broken_export_is_refused(candidate, told):
    assert told in reason(candidate=Model(snapshot(), **candidate))


def test_uploads_that_say_nothing_of_their_videos_are_not_refused():
    """All vectors are alike until something is learned, and something has to serve."""
    bare = snapshot(output_ND=alike(NUM_VIDEOS))
    assert reason(bare, served=None) is None
    assert reason(bare, served=Model(bare)) is None


def test_users_without_a_history_are_alike():
    assert reason(candidate=Model(snapshot(), users=alike), of=truth(windows=NONE)) is None


@pytest.mark.parametrize(
    ("ratio", "num_ranked", "is_refused"),
    [(1.0, MIN_RANKED, False), (2.5, MIN_RANKED, True), (0.3, MIN_RANKED, True), (2.5, 10, False)],
)
def test_a_ranker_out_of_bounds_is_refused_once_it_is_known(ratio, num_ranked, is_refused):
    metrics = {"ranker_predicted_to_watched": ratio, "ranker_examples": float(num_ranked)}
    assert (reason(of=truth(metrics=metrics)) is not None) == is_refused
