"""Let a ranker of the product take part: the features, the counters and the model that ship.

What the trainer does with impressions and serving with requests is done here with exposures:
windows are folded, counters count, features are computed before anybody reacts, the model scores,
and then learns once from each exposure.
"""

import copy
from typing import Self

import numpy as np
from jaxtyping import Int64

from contract.points import point_id
from models.features.examples import CompletionRule
from models.features.features import FeatureEncoder
from models.features.ranking_features import (
    Candidates,
    RequestColumns,
    code_of,
    ranking_features,
    small_code,
)
from models.features.vocabulary import Vocabulary
from models.history.history import HOUR_MS, Window
from models.ranking.batch import RankerCandidates, RankerLabels, RankerRequests, padded_histories
from models.ranking.config import RankerConfig
from models.ranking.ranker import LabelledHistory, RankerModel
from nextwatch.evaluate.ranking.contender import Exposures, Outcomes, RankTraining, Scores
from nextwatch.evaluate.ranking.user_windows import UserWindows
from trainer.evaluate.popularity import Popularity, Viewing

# Shape legend: B = exposures of a batch.

_RULE = CompletionRule()
_MOST_WATCHES = 50


class ProductRanker:
    """A ranker that learns online from every exposure."""

    def __init__(self, config: RankerConfig, seed: int) -> None:
        self._config = config
        self.model = RankerModel(config, seed=seed)
        features = FeatureEncoder(content_buckets=2, context_buckets=2, completion=_RULE)
        self._vocabulary = Vocabulary(features)
        self._popularity = Popularity(
            self._vocabulary, half_life_ms=24 * HOUR_MS, live_half_life_ms=6 * HOUR_MS
        )
        self._windows: UserWindows | None = None
        self._row_of_point: dict[int, int] = {}
        self._is_completed_the_label = False
        self._scored: Exposures | None = None
        self._waiting: tuple[RankerRequests, RankerCandidates] | None = None

    def prepare(self, training: RankTraining) -> None:
        """Make the videos known, and learn the histories."""
        for upload in training.uploads:
            row = self._vocabulary.put(upload)
            self._popularity.add(upload)
            self._row_of_point[point_id(upload.video_id)] = row
        rows = np.arange(1, len(training.uploads) + 1)
        self.model.describe(
            rows,
            channel=np.array([code_of(u.channel_id or "") for u in training.uploads]),
            category=np.array([code_of(u.category or "") for u in training.uploads]),
            tag=np.array([code_of(u.tags[0] if u.tags else "") for u in training.uploads]),
            duration_ms=np.array([float(u.duration_ms) for u in training.uploads]),
        )
        self._windows = UserWindows(training)
        self._is_completed_the_label = training.is_completed_the_label
        histories = [
            LabelledHistory(np.array(h.columns, np.int64) + 1, np.array(h.is_completed, np.bool_))
            for h in training.histories
        ]
        for history, logged in zip(histories, training.histories, strict=True):
            times_ms = np.array(logged.times_ms(), np.int64)
            surfaces = np.zeros(len(times_ms), np.int64)
            done = history.is_completed
            self._popularity.count_impressions(history.rows, times_ms, surfaces, watched=False)
            self._popularity.count_impressions(
                history.rows[done], times_ms[done], surfaces[done], watched=True
            )
        self.model.learn_histories(histories)

    def hold_own_state(self) -> None:
        """Keep the windows of the users."""
        assert self._windows is not None
        self._windows.hold()

    def score(self, exposures: Exposures, *, is_own_still: bool) -> Scores:
        """Return what the model expects of each exposure."""
        inputs = self._inputs(exposures, is_own_still=is_own_still)
        if not is_own_still:
            self._scored, self._waiting = exposures, inputs
        scores = self.model.score(*inputs)
        p_M = scores.p_completed_M if self._is_completed_the_label else scores.p_watched_M
        return Scores(p_M, scores.expected_s_M, scores.median_s_M)

    def observe(self, exposures: Exposures, outcomes: Outcomes) -> None:
        """Learn from the exposures, then count them and fold them into the windows."""
        assert self._windows is not None
        inputs = self._waiting if self._scored is exposures else None
        inputs = inputs or self._inputs(exposures, is_own_still=False)
        self._scored = self._waiting = None
        self.model.learn(
            *inputs,
            RankerLabels(
                outcomes.is_clicked_B,
                outcomes.is_completed_B,
                outcomes.watch_s_B.astype(np.float32),
            ),
        )
        rows = exposures.column_B + 1
        surfaces = self._surfaces(exposures)
        clicked = outcomes.is_clicked_B
        count = self._popularity.count_impressions
        count(rows, exposures.time_ms_B, surfaces, watched=False)
        count(rows[clicked], exposures.time_ms_B[clicked], surfaces[clicked], watched=True)
        self._popularity.count(self._viewings(exposures, outcomes))
        self._windows.observe(exposures, outcomes)

    def frozen(self) -> Self:
        """Return a copy."""
        return copy.deepcopy(self)

    def _viewings(self, exposures: Exposures, outcomes: Outcomes) -> list[Viewing]:
        columns = exposures.column_B.tolist(), exposures.time_ms_B.tolist()
        return [
            Viewing(self._vocabulary.video_ids[column], time_ms, int(watch_s * 1_000), is_completed)
            for column, time_ms, watch_s, is_completed in zip(
                *columns, outcomes.watch_s_B.tolist(), outcomes.is_completed_B.tolist(), strict=True
            )
            if watch_s > 0
        ]

    @staticmethod
    def _surfaces(exposures: Exposures) -> Int64[np.ndarray, "B"]:
        return np.array(
            [small_code(f"tab:{s}") if s >= 0 else 0 for s in exposures.surface_B.tolist()],
            np.int64,
        )

    def _inputs(
        self, exposures: Exposures, *, is_own_still: bool
    ) -> tuple[RankerRequests, RankerCandidates]:
        assert self._windows is not None
        windows = self._windows.of(exposures, is_own_still=is_own_still)
        count = len(exposures.user_B)
        rows = [self._vocabulary.rows(window.video_ids).astype(np.int64) for window in windows]
        columns = RequestColumns(
            windows, exposures.time_ms_B, np.concatenate(rows), self._shown(windows)
        )
        row_M = exposures.column_B + 1
        values = ranking_features(
            columns,
            Candidates(np.arange(count), row_M, np.full(count, -1.0), np.zeros(count, np.int64)),
            self._popularity,
        )
        history_BT, completed_BT = padded_histories(
            rows, [_completed(window) for window in windows], most=_MOST_WATCHES
        )
        return (
            RankerRequests(history_BT, completed_BT, values.context_BU),
            RankerCandidates(
                np.arange(count), row_M, values.candidate_MF, np.zeros(count, np.float32)
            ),
        )

    def _shown(self, windows: list[Window]) -> Int64[np.ndarray, "S"]:
        points = b"".join(entry.points for window in windows for entry in window.impressions)
        row_of = self._row_of_point
        return np.array([row_of.get(p, 0) for p in np.frombuffer(points, "<i8").tolist()], np.int64)


def _completed(window: Window) -> np.ndarray:
    return np.array(
        [_RULE.is_completed(watch.watch_ms, watch.duration_ms) for watch in window.watches],
        np.bool_,
    )
