"""Let a ranker of the product take part: it scores, and then learns once from each exposure."""

import copy
from typing import Self

import numpy as np

from models.features.ranking_features import Candidates
from models.ranking.batch import RankerLabels
from models.ranking.config import RankerConfig
from nextwatch.evaluate.ranking.contender import Exposures, Outcomes, RankTraining, Scores
from nextwatch.evaluate.ranking.online_ranker import OnlineRanker, RankerInputs, ShownVideos
from nextwatch.evaluate.ranking.user_windows import UserWindows

# Shape legend: B = exposures of a batch.


class ProductRanker:
    """A ranker that learns online from every exposure; a request for each."""

    def __init__(self, config: RankerConfig, seed: int) -> None:
        self._ranker = OnlineRanker(config, seed)
        self._windows: UserWindows | None = None
        self._is_completed_the_label = False
        self._scored: Exposures | None = None
        self._waiting: RankerInputs | None = None

    def prepare(self, training: RankTraining) -> None:
        """Make the videos known, and learn the histories."""
        self._ranker.prepare(training.uploads, training.histories)
        self._windows = UserWindows(training)
        self._is_completed_the_label = training.is_completed_the_label

    def hold_own_state(self) -> None:
        """Keep the windows of the users."""
        assert self._windows is not None
        self._windows.hold()

    def score(self, exposures: Exposures, *, is_own_still: bool) -> Scores:
        """Return what the model expects of each exposure."""
        inputs = self._inputs(exposures, is_own_still=is_own_still)
        if not is_own_still:
            self._scored, self._waiting = exposures, inputs
        scores = self._ranker.model.score(*inputs)
        p_M = scores.p_completed_M if self._is_completed_the_label else scores.p_watched_M
        return Scores(p_M, scores.expected_s_M, scores.median_s_M)

    def observe(self, exposures: Exposures, outcomes: Outcomes) -> None:
        """Learn from the exposures and count them, then fold them into the windows."""
        assert self._windows is not None
        inputs = self._waiting if self._scored is exposures else None
        inputs = inputs or self._inputs(exposures, is_own_still=False)
        self._scored = self._waiting = None
        self._ranker.learn(
            inputs,
            RankerLabels(
                outcomes.is_clicked_B,
                outcomes.is_completed_B,
                outcomes.watch_s_B.astype(np.float32),
            ),
            ShownVideos(
                exposures.column_B,
                exposures.time_ms_B,
                exposures.surface_B,
                (outcomes.watch_s_B * 1_000).astype(np.int64),
            ),
        )
        self._windows.observe(exposures, outcomes)

    def frozen(self) -> Self:
        """Return a copy."""
        return copy.deepcopy(self)

    def _inputs(self, exposures: Exposures, *, is_own_still: bool) -> RankerInputs:
        assert self._windows is not None
        windows = self._windows.of(exposures, is_own_still=is_own_still)
        count = len(exposures.user_B)
        candidates = Candidates(
            np.arange(count),
            exposures.column_B + 1,
            np.full(count, -1.0),
            np.zeros(count, np.int64),
        )
        return self._ranker.inputs(windows, exposures.time_ms_B, candidates)
