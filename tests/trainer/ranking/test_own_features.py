"""The features of impressions of a replayed log are those of before them."""

import numpy as np
import pytest

from models.features.examples import CompletionRule
from models.features.ranking_features import CANDIDATE_FEATURES, CONTEXT_FEATURES
from models.history.history import DAY_MS, WindowPolicy
from tests.support.builders import shown, watch
from tests.support.bundles import catalogue, learner_of
from trainer.evaluate.popularity import Popularity
from trainer.input.windows import Windows
from trainer.ranking.own_features import own_features


@pytest.fixture(scope="module")
def learner():
    return learner_of(catalogue())


def computed(learner, *watches):
    """Return what a trainer that has read *watches* computes for an impression at 5,000 ms."""
    popularity = Popularity(learner.vocabulary, half_life_ms=DAY_MS, live_half_life_ms=DAY_MS)
    windows = Windows(WindowPolicy(), max_users=10)
    for one in watches:
        windows.fold(one)
    compute = own_features(learner, windows, popularity, CompletionRule(), lambda _point: 0)
    return compute(shown("cooking0", "chess1", at_ms=5_000))


def test_a_watch_that_is_read_before_its_impression_is_not_among_the_features(learner):
    """Topics are read in any order: the ranker would read the label."""
    before = watch("trains1", at_ms=2_000, watch_ms=1_000)
    expected = computed(learner, before)

    found = computed(learner, before, watch("cooking0", at_ms=25_000, watch_ms=20_000))

    assert found == expected
    context = dict(zip(CONTEXT_FEATURES, np.frombuffer(found.context, "<f4"), strict=True))
    watched = np.frombuffer(found.candidates, "<f4").reshape(2, -1)
    assert context["num_watches"] == 1.0
    assert (watched[:, CANDIDATE_FEATURES.index("video_watches")] == 0.0).all()


def test_nothing_is_computed_where_no_video_is_known(learner):
    windows = Windows(WindowPolicy(), max_users=10)
    popularity = Popularity(learner.vocabulary, half_life_ms=DAY_MS, live_half_life_ms=DAY_MS)
    compute = own_features(learner, windows, popularity, CompletionRule(), lambda _point: 0)

    assert compute(shown("nobody's")) is None
