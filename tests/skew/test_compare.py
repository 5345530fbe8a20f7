"""Skew is found where there is some, and nowhere else."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from contract.errors import BundleError
from contract.points import POINT_BYTES, point_id
from contract.process.clock import ManualClock
from contract.wire.topics import WATCH_EVENTS
from models.bundle import bundle
from models.history.history import EMPTY, WindowPolicy, fold
from nextwatch.skew.compare import Topics, compare
from streams.pipeline.batch import Batch
from streams.pipeline.feature_log import FeatureLog
from streams.serving import generation
from streams.serving.candidates import CandidateSource
from streams.serving.generation import ActiveGeneration
from streams.serving.recommend import Recommender
from streams.serving.requests import request_of
from streams.serving.trending import Trending
from tests.support.builders import T0, shown, watch
from tests.support.bundles import catalogue, learner_of, write

EVENTS = [
    shown("cooking0", "chess1", at_ms=0),
    watch("cooking0", at_ms=1_000, watch_ms=20_000),
    watch("trains1", at_ms=2_000, watch_ms=1_000),
]


class Everything:
    """An index that finds the whole catalogue."""

    def nearest(self, collection, vectors_BD, limit):
        return [[point_id(one.video_id) for one in catalogue()]] * len(vectors_BD)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    return write(learner_of(catalogue()), root)[0]


@pytest.fixture
def topics(written):
    """Return what the topics hold after one recommendation was made of `EVENTS`."""
    serving = generation.load(bundle.load(written), collection_prefix="p")
    retrieval = CandidateSource(Everything(), num_ranked=50, num_trending=0, monotonic=lambda: 0.0)
    recommender = Recommender(
        ActiveGeneration(serving),
        retrieval,
        Trending(set()),
        num_recommended=10,
        is_coalescing=True,
        clock=ManualClock(T0),
        feature_log=FeatureLog(1.0),
    )
    window = fold(EMPTY, EVENTS, WindowPolicy())
    offsets = {"watch-events": 2, "impressions": 1}
    batch = Batch(requests=[request_of("u1", window, [EVENTS[-1]], offsets)])
    for stage in (recommender.encode, recommender.search, recommender.rank):
        stage(batch)
    found = Topics(logs=list(batch.ranking_logs))
    found.causes = {one.recommendation_id: one.caused_by for one in batch.recommendations}
    found.events["u1"] = [
        ("impressions", 0, EVENTS[0]),
        ("watch-events", 0, EVENTS[1]),
        ("watch-events", 1, EVENTS[2]),
    ]
    return found


def compared(topics, written):
    root = Path(written.removeprefix("file://")).parent
    return compare(topics, lambda name: bundle.load(f"file://{root}/{name}"), WindowPolicy())


def test_what_serving_logged_is_what_the_topics_give(topics, written):
    skew = compared(topics, written)

    assert skew.recommendations == 1
    assert skew.values > 200
    assert (skew.num_differences, skew.examples) == (0, [])


def test_a_value_that_differs_is_named(topics, written):
    [log] = topics.logs
    values = np.frombuffer(log.candidates, "<f4").copy()
    values[0] += 1.0
    topics.logs = [replace(log, candidates=values.tobytes())]

    skew = compared(topics, written)

    assert +skew.differences == {"similarity": 1}
    assert "similarity of" in skew.examples[0]


def test_a_history_that_differs_is_named(topics, written):
    """Rankers read it beside the features, in their own embeddings."""
    [log] = topics.logs
    turned = log.history[POINT_BYTES:] + log.history[:POINT_BYTES]
    topics.logs = [replace(log, history=turned, history_completed=b"\0\1")]

    skew = compared(topics, written)

    assert +skew.differences == {"history": 2, "history_completed": 2}
    assert "history differs in 2 watches" in skew.examples[0]


@pytest.mark.parametrize("field", ["context", "user_vector", "candidates", "video_ids"])
def test_a_log_of_other_sizes_is_counted_and_not_compared(topics, written, field):
    """Whoever may write to the topic may have made it; the others are compared."""
    [log] = topics.logs
    few = {"video_ids": [], "candidates": b""}
    if field != "video_ids":
        size = 4 * len(log.video_ids) if field == "candidates" else 8
        few = {field: getattr(log, field)[:size]}
    topics.logs = [replace(log, **few), log]

    skew = compared(topics, written)

    assert (skew.recommendations, skew.num_differences) == (1, 0)
    assert dict(skew.not_compared) == {"features of other sizes": 1}


def test_events_after_the_logged_offsets_are_not_in_the_window(topics, written):
    later = watch("chess0", at_ms=9_000)
    topics.events["u1"].append((WATCH_EVENTS.name, 2, later))

    assert compared(topics, written).num_differences == 0


def test_an_event_that_is_missing_shows_up(topics, written):
    topics.events["u1"] = [one for one in topics.events["u1"] if one[2] is not EVENTS[1]]

    assert compared(topics, written).differences["num_watches"] == 1


def test_what_is_gone_is_counted_and_not_compared(topics, written):
    def gone(bundle_id):
        raise BundleError("discarded")

    skew = compare(topics, gone, WindowPolicy())

    assert (skew.values, dict(skew.not_compared)) == (0, {"its bundle is gone": 1})
