"""Progressive recall, worked by hand."""

import numpy as np
import pytest

from models.features.examples import Example
from models.features.vocabulary import Vocabulary
from models.history.history import EMPTY, WindowPolicy, fold
from models.serving.ranking import Ranker, RankerParams
from tests.support.builders import T0, upload, watch
from tests.trainer.doubles import FEATURES
from trainer.evaluate.popularity import Popularity, Viewing
from trainer.evaluate.progressive import NUM_RECENT, Progressive, hits


def items_of(num_videos, watched=()):
    """Return counters of v0, v1, ..., each watched as often as it stands in *watched*."""
    vocabulary = Vocabulary(FEATURES)
    items = Popularity(vocabulary, half_life_ms=1_000, live_half_life_ms=1_000)
    for n in range(num_videos):
        vocabulary.put(upload(f"v{n}"))
        items.add(upload(f"v{n}"))
    items.count([Viewing(video_id, T0, 20_000, is_completed=True) for video_id in watched])
    return items


def example(label, *seen):
    """Return an example of somebody who has *seen* videos and then watched *label*."""
    window = fold(EMPTY, [watch(video_id, at_ms=n) for n, video_id in enumerate(seen)], POLICY)
    return Example("u1", window, label, T0 + 1_000)


def recall_at_20(similarity_BN, examples, items, live=None):
    """Return the recalls at 20 after one batch, by system."""
    progressive = Progressive(Ranker(RankerParams()))
    is_live_N = np.ones(len(items.vocabulary), bool) if live is None else live
    progressive.score(examples, np.asarray(similarity_BN, np.float32), is_live_N, items)
    metrics = progressive.metrics()
    return {name: metrics[f"{name}_recall_at_20"] for name in ("retrieval", "popularity")}


POLICY = WindowPolicy()
DESCENDING = np.linspace(1.0, 0.0, 30)  # v0 is nearest, v29 farthest


def test_the_twentieth_is_found_and_the_twenty_first_is_not():
    both = np.stack([DESCENDING, DESCENDING])

    recall = recall_at_20(both, [example("v19"), example("v20")], items_of(30))

    assert recall["retrieval"] == 0.5


def test_seen_videos_are_not_ranked():
    """v20 is the 21st nearest, and the 20th of those the user has not seen."""
    recall = recall_at_20([DESCENDING], [example("v20", "v3")], items_of(30))

    assert recall["retrieval"] == 1.0


def test_videos_taken_down_are_not_ranked():
    live = np.ones(30, bool)
    live[3] = False

    recall = recall_at_20([DESCENDING], [example("v20")], items_of(30), live)

    assert recall["retrieval"] == 1.0


def test_popularity_ranks_by_decayed_watches_alone():
    popular = [f"v{n}" for n in range(1, 21)]

    recall = recall_at_20(
        [DESCENDING, DESCENDING], [example("v20"), example("v0")], items_of(30, popular)
    )

    assert recall["popularity"] == 0.5


def test_ties_are_drawn_by_lot():
    """One is better, 40 are equal, 19 places are left for them: 19 in 40."""
    score_BN = np.array([[1.0] + [0.5] * 40])

    assert hits(score_BN, np.array([7])) == pytest.approx(np.array([[19 / 40, 1.0]]))


def test_equal_scores_have_the_recall_of_a_random_order():
    recall = recall_at_20(np.zeros((1, 100)), [example("v5")], items_of(100))

    assert recall["retrieval"] == pytest.approx(0.2)


def test_a_nan_score_finds_nothing():
    similarity = DESCENDING.copy()
    similarity[0] = np.nan

    recall = recall_at_20([similarity], [example("v0")], items_of(30))

    assert recall["retrieval"] == 0.0


def test_the_served_order_is_that_of_the_ranker():
    """Similarity says v29 is last; the ranker weighs in that everybody watches it."""
    progressive = Progressive(Ranker(RankerParams(popularity_weight=100.0)))
    items = items_of(30, ["v29"] * 5)

    progressive.score(
        [example("v29")], DESCENDING[None].astype(np.float32), np.ones(30, bool), items
    )

    metrics = progressive.metrics()
    assert (metrics["progressive_recall_at_20"], metrics["retrieval_recall_at_20"]) == (1.0, 0.0)


def test_recent_forgets_and_the_whole_does_not():
    # NUM_RECENT misses after as many hits: half of all, none of the recent ones
    progressive = Progressive(Ranker(RankerParams()))
    items, live = items_of(30), np.ones(30, bool)
    for label in ("v0", "v29"):
        for _ in range(NUM_RECENT // 100):
            similarity = np.repeat(DESCENDING[None], 100, axis=0).astype(np.float32)
            progressive.score([example(label)] * 100, similarity, live, items)

    metrics = progressive.metrics()

    assert metrics["retrieval_recall_at_20"] == 0.5
    assert metrics["recent_retrieval_recall_at_20"] == 0.0


def test_drawn_examples_count_for_their_batch():
    """Half of 4 are found and all of 1 that stands for 96: 98 of 100, not 3 of 5."""
    progressive = Progressive(Ranker(RankerParams()))
    items, live = items_of(30), np.ones(30, bool)
    for labels, stand_for in ((("v0", "v1", "v28", "v29"), None), (("v0",), 96)):
        similarity = np.repeat(DESCENDING[None], len(labels), axis=0).astype(np.float32)
        progressive.score(
            [example(v) for v in labels], similarity, live, items, stand_for=stand_for
        )

    metrics = progressive.metrics()

    assert metrics["retrieval_recall_at_20"] == pytest.approx(0.98)
    assert metrics["recent_retrieval_recall_at_20"] == pytest.approx(0.98)
    assert metrics["progressive_examples"] == 5


def test_tallies_of_0_2_are_read():
    """They had no weights: every example stood for itself."""
    progressive, resumed = (Progressive(Ranker(RankerParams())) for _ in range(2))
    items, live = items_of(30), np.ones(30, bool)
    progressive.score([example("v3")], DESCENDING[None].astype(np.float32), live, items)
    arrays = progressive.state()
    arrays["recent"] = arrays["recent"][:, 1:]
    del arrays["weight"]

    resumed.load_state(arrays)

    assert resumed.metrics() == progressive.metrics()


def test_the_state_is_restored_exactly():
    progressive, resumed = (Progressive(Ranker(RankerParams())) for _ in range(2))
    items, live = items_of(30), np.ones(30, bool)
    progressive.score([example("v3")], DESCENDING[None].astype(np.float32), live, items)

    resumed.load_state(progressive.state())

    assert resumed.metrics() == progressive.metrics()
