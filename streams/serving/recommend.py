"""Make recommendations from windows, in three stages: encode, search, rank.

A batch of users goes through the same steps as one user would: encode the history windows, find
candidates, leave out what was seen, rank, apply the rules, keep the best. Each step is one call
for the whole batch. Nothing here knows Kafka, and the only thing waited for is the vector index,
with bounded patience. What is unavailable or broken is left out and named in `degraded`; every
request is answered.
"""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import islice

import numpy as np
import structlog
from jaxtyping import Float, Int8, Int64

from contract.process.clock import Clock
from contract.wire.events import RankingLog, Recommendation, RecommendedVideo
from contract.wire.identifiers import as_uuid, event_key
from contract.wire.words import (
    ALL_SEEN,
    CATALOGUE_EMPTY,
    DEFAULT_ARM,
    MODEL_BROKEN,
    NO_BUNDLE,
    TRENDING,
)
from models.history.history import WatchEntry, Window
from models.serving.candidates import ranking_inputs, request_columns
from streams.pipeline.batch import Batch
from streams.pipeline.feature_log import FeatureLog, RankedFeatures
from streams.serving import model_calls, skips
from streams.serving.candidates import CandidateSource, NearestVideos
from streams.serving.generation import ActiveGeneration, Serving
from streams.serving.requests import Request
from streams.serving.search_matches import (
    SOURCE_CODE_S,
    SOURCE_NAMES,
    SearchMatcher,
    put_first,
    source_numbers,
    with_first,
    with_matches,
)
from streams.serving.seen import SeenRows
from streams.serving.shown import demote_shown
from streams.serving.text_index import TextIndex
from streams.serving.trending import Trending, trending_lists

log = structlog.get_logger()

# Shape legend: B = users of the batch, C = candidates (padded with row 0), K = those kept,
# D = vector width, M = watches of all users, S = watches of one.


class Recommender:
    """Answers the requests of batches from the bundle in service."""

    def __init__(  # noqa: PLR0913 - one argument a part
        self,
        switch: ActiveGeneration,
        retrieval: CandidateSource,
        trending: Trending,
        *,
        num_recommended: int,
        is_coalescing: bool,
        clock: Clock,
        asked: SearchMatcher | None = None,
        skip_weight: float = 2.0,
        feature_log: FeatureLog | None = None,
    ) -> None:
        self._switch = switch
        self._retrieval = retrieval
        self._trending = trending
        self._num_recommended = num_recommended
        self._is_coalescing = is_coalescing
        self._clock = clock
        self._asked = asked or SearchMatcher(
            TextIndex(), share=0.0, num_recommended=num_recommended
        )
        self._skip_weight = skip_weight
        self._feature_log = feature_log or FeatureLog(0.0)

    def recommend(self, requests: Sequence[Request]) -> Sequence[Recommendation]:
        """Return the recommendations for *requests*, in order."""
        batch = Batch(requests=requests)
        for stage in (self.encode, self.search, self.rank):
            stage(batch)
        return batch.recommendations

    def encode(self, batch: Batch) -> None:
        """Compute the user vectors, by the bundle of this moment."""
        with self._switch.encoding:
            serving = batch.serving = self._switch.current
            if serving is None:
                return
            batch.seen = SeenRows(serving.items)
            windows = [request.window for request in batch.requests]
            vectors_BD = model_calls.encoded(serving, windows, batch.seen)
        is_broken_B = ~np.isfinite(vectors_BD).all(axis=1)
        batch.vectors_BD = np.where(is_broken_B[:, None], np.float32(0), vectors_BD)
        batch.is_broken = is_broken_B.tolist()

    def search(self, batch: Batch) -> None:
        """Find the videos nearest to the users, within the patience of the index."""
        serving, vectors_BD = batch.serving, batch.vectors_BD
        if serving is None:
            return
        user_ids = [request.user_id for request in batch.requests]
        near = self._retrieval.near(serving, user_ids, vectors_BD)
        if near is None:
            windows = [request.window for request in batch.requests]
            with self._switch.searching:
                seen = (batch.seen or SeenRows(serving.items)).of(windows)
                near = model_calls.next_best(self._retrieval, serving, user_ids, vectors_BD, seen)
        if near is None:
            batch.is_broken = [True] * len(user_ids)
        batch.near = near or NearestVideos([()] * len(user_ids), TRENDING)

    def rank(self, batch: Batch) -> None:
        """Rank the candidates; one recommendation for each request, or for each event."""
        if batch.serving is None:
            lists = trending_lists(batch.requests, self._trending, usual=self._num_recommended)
        else:
            with self._switch.ranking:
                lists = self._answered(batch, batch.serving)
        batch.recommendations = self._recommendations(batch, lists)
        batch.ranking_logs = self._ranking_logs(batch)

    def _answered(self, batch: Batch, serving: Serving) -> list[list[RecommendedVideo]]:
        """Return a list for each request, whatever goes wrong: it would go wrong for ever."""
        try:
            return self._ranked(batch, serving)
        except Exception:  # a batch that nobody can answer would end every worker in turn
            log.exception("answer_failed", bundle_id=serving.bundle_id)
            batch.is_broken = [True] * len(batch.requests)
            batch.shortages = [""] * len(batch.requests)
            return trending_lists(batch.requests, self._trending, usual=self._num_recommended)

    @property
    def has_bundle(self) -> bool:
        """Whether a model is in service; without one, lists are made of the watches of `note`."""
        return self._switch.current is not None

    def note(self, before: Window, watches: Sequence[WatchEntry]) -> None:
        """Count *watches*, which have just entered the window that was *before*."""
        self._trending.note(before, watches)

    def forget(self, user_id: str) -> None:
        """Drop the remembered candidates of an erased user."""
        self._retrieval.forget(user_id)

    def _ranked(self, batch: Batch, serving: Serving) -> list[list[RecommendedVideo]]:
        """Return the best of each user's candidates, best first."""
        windows = [request.window for request in batch.requests]
        ids = [
            () if is_broken else ids
            for ids, is_broken in zip(batch.near.ids, batch.is_broken, strict=True)
        ]
        near = NearestVideos(ids, batch.near.source)
        seen = (batch.seen or SeenRows(serving.items)).of(windows)
        candidates = self._retrieval.candidates(serving, near, seen, windows)
        matches = self._asked.matches(batch.requests, serving.items, seen, serving.completion)
        rows_BC = _padded(with_matches(candidates.rows, matches))
        watched = np.concatenate(seen) if seen else np.zeros(0, np.int64)
        now_ms = [request.now_ms for request in batch.requests]
        requests = request_columns(windows, now_ms, watched, serving.points.rows)
        source_BC = source_numbers(rows_BC.shape, candidates, batch.near.source)
        inputs = ranking_inputs(
            requests, batch.vectors_BD, rows_BC, SOURCE_CODE_S.take(source_BC), serving.items
        )
        expected_BC, score_BC, is_failed_B = model_calls.ranked(serving, inputs)
        batch.is_broken = (is_failed_B | np.array(batch.is_broken, np.bool_)).tolist()
        batch.shortages = [
            ALL_SEEN if is_again else "" if row else CATALOGUE_EMPTY
            for row, is_again in zip(rows_BC[:, 0].tolist(), candidates.is_again, strict=True)
        ]
        score_BC = skips.push_away_skipped(
            score_BC,
            rows_BC,
            batch.requests,
            serving.items,
            serving.completion,
            weight=self._skip_weight,
        )
        score_BC, first = put_first(score_BC, rows_BC, matches)
        order_BC = np.argsort(-score_BC, axis=1, kind="stable")
        order_BC = demote_shown(
            order_BC, rows_BC, batch.requests, serving.points, len(serving.items.outputs_ND)
        )
        order_BC[np.array(candidates.is_again, np.bool_)] = np.arange(order_BC.shape[1])
        lengths = [request.length(self._num_recommended) for request in batch.requests]
        order_BK = order_BC[:, : max(lengths)]
        source_BC = with_first(source_BC, first)
        if self._feature_log.is_on:
            batch.logged = RankedFeatures.of(batch.requests, inputs, order_BK, serving)
        return _lists(
            serving,
            lengths,
            np.take_along_axis(source_BC, order_BK, 1),
            rows_BK=np.take_along_axis(rows_BC, order_BK, 1),
            expected_BK=np.take_along_axis(expected_BC, order_BK, 1),
            score_BK=np.take_along_axis(score_BC, order_BK, 1),
        )

    def _recommendations(
        self, batch: Batch, lists: Sequence[list[RecommendedVideo]]
    ) -> list[Recommendation]:
        serving, now_ms = batch.serving, self._clock()
        bundle_id = serving.bundle_id if serving else None
        recommendations = []
        for number, (request, items) in enumerate(zip(batch.requests, lists, strict=True)):
            degraded = list(batch.near.degraded) if serving else [NO_BUNDLE]
            if serving and batch.is_broken[number]:
                degraded.append(MODEL_BROKEN)
            if serving and batch.shortages[number]:
                degraded.append(batch.shortages[number])
            event_ids = list(dict.fromkeys(request.event_ids))
            causes = [event_ids] if self._is_coalescing else [[one] for one in event_ids]
            recommendations += [
                Recommendation(
                    recommendation_id=recommendation_id(request.user_id, caused_by, bundle_id),
                    user_id=request.user_id,
                    generated_at_ms=now_ms,
                    caused_by=caused_by,
                    bundle_id=bundle_id,
                    generation=serving.generation if serving else 0,
                    arm=DEFAULT_ARM,
                    items=items,
                    degraded=degraded,
                )
                for caused_by in causes
            ]
        return recommendations

    def _ranking_logs(self, batch: Batch) -> list[RankingLog]:
        """Return the features of the recommendations that are logged, unless a model failed."""
        logged = batch.logged
        if logged is None:
            return []
        num_of = 1 if self._is_coalescing else None
        logs: list[RankingLog] = []
        answers = iter(batch.recommendations)
        for number, request in enumerate(batch.requests):
            count = num_of or len(dict.fromkeys(request.event_ids))
            logs += [
                self._feature_log.record(answer, logged, number)
                for answer in islice(answers, count)
                if answer.items
                and not batch.is_broken[number]
                and self._feature_log.is_logged(answer.recommendation_id)
            ]
        return logs


def recommendation_id(user_id: str, event_ids: Sequence[str], bundle_id: str | None) -> str:
    """Return an id that is the same for every re-delivery of a recommendation."""
    causes = sorted({as_uuid(event_key(event_id)) for event_id in event_ids})
    named = "\n".join([user_id, bundle_id or "", *causes])
    return as_uuid(blake2b(named.encode(), digest_size=16).digest())


def _lists(
    serving: Serving,
    lengths: Sequence[int],
    source_BK: Int8[np.ndarray, "B K"],
    *,
    rows_BK: Int64[np.ndarray, "B K"],
    expected_BK: Float[np.ndarray, "B K"],
    score_BK: Float[np.ndarray, "B K"],
) -> list[list[RecommendedVideo]]:
    """Return the chosen videos of each user; padding, row 0, is no video."""
    columns = zip(
        lengths,
        rows_BK.tolist(),
        np.round(expected_BK.astype(np.float64), 1).tolist(),
        np.round(score_BK.astype(np.float64), 6).tolist(),
        source_BK.tolist(),
        strict=True,
    )
    return [
        [
            RecommendedVideo(
                video_id=serving.items.video_id(row),
                expected_watch_ms=expected_ms,
                score=score,
                source=SOURCE_NAMES[source],
            )
            for row, expected_ms, score, source in islice(zip(*user, strict=True), length)
            if row
        ]
        for length, *user in columns
    ]


def _padded(rows: Sequence[Int64[np.ndarray, "C"]]) -> Int64[np.ndarray, "B C"]:
    width = max((len(mine) for mine in rows), default=0)
    padded = np.zeros((len(rows), max(width, 1)), dtype=np.int64)
    for index, mine in enumerate(rows):
        padded[index, : len(mine)] = mine
    return padded
