"""Hold a ranker of the product with its counters: the features and the model that ship.

What the trainer does with impressions and serving with requests is done here with the exposures of
a log. Features are computed before anybody reacts; then the model learns once from each exposure,
and the counters count it. Windows are the caller's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from contract.points import point_id
from contract.wire.events import VideoUpload
from models.features.examples import CompletionRule
from models.features.features import FeatureEncoder
from models.features.ranking_features import (
    Candidates,
    RequestColumns,
    content_codes,
    ranking_features,
    small_code,
)
from models.features.vocabulary import Vocabulary
from models.history.history import HOUR_MS, Window
from models.ranking.batch import (
    MAX_HISTORY,
    RankerCandidates,
    RankerLabels,
    RankerRequests,
    padded_histories,
)
from models.ranking.config import RankerConfig
from models.ranking.ranker import LabelledHistory, RankerModel
from nextwatch.evaluate.logs.trial import LoggedHistory
from trainer.evaluate.popularity import Popularity, Viewing

# Shape legend: B = requests, M = candidates or exposures, S = videos shown.

_RULE = CompletionRule()


class RankerInputs(NamedTuple):
    """What the model scores and learns from."""

    requests: RankerRequests
    candidates: RankerCandidates


class ShownVideos(NamedTuple):
    """Exposures for the counters; column n is that of ``uploads[n]``, a surface is a tab or -1."""

    column_M: Int64[np.ndarray, "M"]
    time_ms_M: Int64[np.ndarray, "M"]
    surface_M: Int64[np.ndarray, "M"]
    watch_ms_M: Int64[np.ndarray, "M"]


class OnlineRanker:
    """A ranker that learns online; row n + 1 is column n of the log."""

    def __init__(self, config: RankerConfig, seed: int) -> None:
        self.model = RankerModel(config, seed=seed)
        features = FeatureEncoder(content_buckets=2, context_buckets=2, completion=_RULE)
        self._vocabulary = Vocabulary(features)
        self._popularity = Popularity(
            self._vocabulary, half_life_ms=24 * HOUR_MS, live_half_life_ms=6 * HOUR_MS
        )
        self._row_of_point: dict[int, int] = {}

    def prepare(self, uploads: Sequence[VideoUpload], histories: Sequence[LoggedHistory]) -> None:
        """Make the videos known, count the histories, and learn them."""
        for upload in uploads:
            row = self._vocabulary.put(upload)
            self._popularity.add(upload)
            self._row_of_point[point_id(upload.video_id)] = row
        codes = [content_codes(upload) for upload in uploads]
        self.model.describe(
            np.arange(1, len(uploads) + 1),
            channel=np.array([one["channel"] for one in codes], np.int64),
            category=np.array([one["category"] for one in codes], np.int64),
            tag=np.array([one["tag"] for one in codes], np.int64),
            duration_ms=np.array([float(u.duration_ms) for u in uploads]),
        )
        labelled = [
            LabelledHistory(np.array(h.columns, np.int64) + 1, np.array(h.is_completed, np.bool_))
            for h in histories
        ]
        for history, logged in zip(labelled, histories, strict=True):
            times_ms = np.array(logged.times_ms(), np.int64)
            surfaces = np.zeros(len(times_ms), np.int64)
            self._count_impressions(history.rows, times_ms, surfaces, history.is_completed)
        self.model.learn_histories(labelled)

    def inputs(
        self, windows: Sequence[Window], now_ms_B: Int64[np.ndarray, "B"], candidates: Candidates
    ) -> RankerInputs:
        """Return the features of *candidates* at this moment; the windows are of the requests."""
        rows = [self._vocabulary.rows(window.video_ids).astype(np.int64) for window in windows]
        columns = RequestColumns(windows, now_ms_B, np.concatenate(rows), self._shown(windows))
        values = ranking_features(columns, candidates, self._popularity)
        history_BT, completed_BT = padded_histories(
            rows, [_completed(window) for window in windows], most=MAX_HISTORY
        )
        position_M = np.zeros(len(candidates.row_M), np.float32)
        return RankerInputs(
            RankerRequests(history_BT, completed_BT, values.context_BU),
            RankerCandidates(
                candidates.request_M, candidates.row_M, values.candidate_MF, position_M
            ),
        )

    def learn(self, inputs: RankerInputs, labels: RankerLabels, shown: ShownVideos) -> None:
        """Learn from exposures, then count them."""
        self.model.learn(*inputs, labels)
        surface_M = np.array(
            [small_code(f"tab:{s}") if s >= 0 else 0 for s in shown.surface_M.tolist()], np.int64
        )
        self._count_impressions(shown.column_M + 1, shown.time_ms_M, surface_M, labels.is_watched_M)
        columns = zip(
            shown.column_M.tolist(),
            shown.time_ms_M.tolist(),
            shown.watch_ms_M.tolist(),
            labels.is_completed_M.tolist(),
            strict=True,
        )
        video_ids = self._vocabulary.video_ids
        self._popularity.count(
            [
                Viewing(video_ids[column], time_ms, watch_ms, is_completed)
                for column, time_ms, watch_ms, is_completed in columns
                if watch_ms > 0
            ]
        )

    def _count_impressions(
        self,
        rows: Int64[np.ndarray, "M"],
        times_ms: Int64[np.ndarray, "M"],
        surfaces: Int64[np.ndarray, "M"],
        is_watched: Bool[np.ndarray, "M"],
    ) -> None:
        count = self._popularity.count_impressions
        count(rows, times_ms, surfaces, watched=False)
        count(rows[is_watched], times_ms[is_watched], surfaces[is_watched], watched=True)

    def _shown(self, windows: Sequence[Window]) -> Int64[np.ndarray, "S"]:
        points = b"".join(entry.points for window in windows for entry in window.impressions)
        row_of = self._row_of_point
        return np.array([row_of.get(p, 0) for p in np.frombuffer(points, "<i8").tolist()], np.int64)


def _completed(window: Window) -> np.ndarray:
    return np.array(
        [_RULE.is_completed(watch.watch_ms, watch.duration_ms) for watch in window.watches],
        np.bool_,
    )
