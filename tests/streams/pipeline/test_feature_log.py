"""What serving writes down of a recommendation is what it ranked by."""

import math
from uuid import uuid4

import numpy as np
import pytest

from contract.points import point_id
from contract.process.clock import ManualClock
from contract.wire.events import encode
from models.features.ranking_features import CANDIDATE_FEATURES, CONTEXT_FEATURES
from models.history.history import EMPTY, WindowPolicy, fold
from streams.pipeline.batch import Batch
from streams.pipeline.feature_log import FeatureLog
from streams.serving.candidates import CandidateSource
from streams.serving.generation import ActiveGeneration
from streams.serving.recommend import Recommender
from streams.serving.requests import Request
from streams.serving.trending import Trending
from tests.streams.servings import serving
from tests.support.builders import T0, event_id, watch

VIDEOS = {"near": (1.0, 0.0), "far": (0.0, 1.0), "half": (math.sqrt(0.5), math.sqrt(0.5))}


class Listed:
    """An index that finds all videos for everybody."""

    def nearest(self, collection, vectors_BD, limit):
        return [[point_id(video_id) for video_id in VIDEOS]] * len(vectors_BD)


def batch_of(*windows, share=1.0, is_coalescing=True, num_recommended=2):
    """Return the ranked batch of users with these windows."""
    retrieval = CandidateSource(Listed(), num_ranked=10, num_trending=0, monotonic=lambda: 0.0)
    recommender = Recommender(
        ActiveGeneration(serving(VIDEOS)),
        retrieval,
        Trending(set()),
        num_recommended=num_recommended,
        is_coalescing=is_coalescing,
        clock=ManualClock(T0),
        feature_log=FeatureLog(share),
    )
    requests = [
        Request(f"u{n}", window, [event_id(f"{n}a"), event_id(f"{n}b")], T0, (None, None), {"t": n})
        for n, window in enumerate(windows)
    ]
    batch = Batch(requests=requests)
    for stage in (recommender.encode, recommender.search, recommender.rank):
        stage(batch)
    return batch


def columns_of(log, name):
    rows = np.frombuffer(log.candidates, "<f4").reshape(len(log.video_ids), -1)
    return rows[:, CANDIDATE_FEATURES.index(name)].tolist()


def window_of(*events):
    return fold(EMPTY, events, WindowPolicy())


def test_the_log_names_the_recommended_videos_in_their_order_with_their_own_values():
    batch = batch_of(EMPTY, window_of(watch("near")))

    for answer, log in zip(batch.recommendations, batch.ranking_logs, strict=True):
        assert log.video_ids == [item.video_id for item in answer.items]
        assert log.recommendation_id == answer.recommendation_id
        assert columns_of(log, "similarity") == pytest.approx(
            [VIDEOS[video_id][0] for video_id in log.video_ids]
        )
    assert [log.video_ids for log in batch.ranking_logs] == [["near", "half"], ["half", "far"]]


def test_the_log_has_the_history_that_the_ranker_reads():
    window = window_of(watch("near", watch_ms=100), watch("gone", at_ms=5, watch_ms=30_000))

    [log] = batch_of(window).ranking_logs

    points = np.frombuffer(log.history, "<i8").tolist()
    assert points == [point_id("near"), point_id("gone")]
    assert log.history_completed == b"\x00\x01"
    context = dict(zip(CONTEXT_FEATURES, np.frombuffer(log.context, "<f4").tolist(), strict=True))
    assert context["num_watches"] == 2
    assert log.next_offsets == {"t": 0}


def test_the_share_decides_by_the_id_which_recommendations_are_logged():
    log = FeatureLog(0.25)
    ids = [str(uuid4()) for _ in range(4_000)]

    logged = [one for one in ids if log.is_logged(one)]

    assert 0.2 < len(logged) / len(ids) < 0.3
    assert all(log.is_logged(one) for one in logged)
    assert batch_of(EMPTY, share=0.0).ranking_logs == []


def test_each_of_several_answers_to_one_request_is_logged():
    batch = batch_of(EMPTY, window_of(watch("near")), is_coalescing=False)

    logged = [log.recommendation_id for log in batch.ranking_logs]

    assert logged == [answer.recommendation_id for answer in batch.recommendations]
    assert len(logged) == 4
    assert [log.user_id for log in batch.ranking_logs] == ["u0", "u0", "u1", "u1"]


def test_a_list_shorter_than_asked_for_is_logged_without_padding():
    [log] = batch_of(window_of(watch("near"), watch("half")), num_recommended=20).ranking_logs

    assert log.video_ids == ["far"]
    assert len(log.candidates) == 4 * len(CANDIDATE_FEATURES)


def test_a_record_of_twenty_videos_stays_small():
    """Features as base64 of float32: some 4 KB, a third of what JSON numbers take."""
    [log] = batch_of(window_of(*(watch(f"v{n}", at_ms=n) for n in range(50)))).ranking_logs

    assert len(encode(log)) < 2_000
