"""Let both stages take part as one contender: retrieval finds, a ranker puts in order.

At a case, the first 200 videos of retrieval that the user has not been shown are scored by a
ranker, and stand above all others in its order; the others stay in that of retrieval. Features are
computed by the functions of serving, and the score is that of serving. The ranker learns online
from the exposures of the log, as the trainer's does from impressions.
"""

import copy
from collections.abc import Sequence
from typing import Self

import numpy as np
from jaxtyping import Float32, Float64, Int64

from contract.wire.events import VideoUpload
from contract.wire.words import ANN
from models.features.ranking_features import Candidates, small_code
from models.history.history import Window, with_context
from models.ranking.batch import RankerLabels
from models.ranking.config import RankerConfig
from models.ranking.ranker import RankerScores
from models.serving.ranking import blended_score
from nextwatch.evaluate.contender import Case, Exposure, StaticContender, TrainingData
from nextwatch.evaluate.learned import FrozenTowers, Learned
from nextwatch.evaluate.logs.trial import surface_context
from nextwatch.evaluate.ranking.online_ranker import OnlineRanker, RankerInputs, ShownVideos
from trainer.ranking.policy import JoinPolicy

# Shape legend: B = cases or exposures, N = videos, M = candidates of all cases.

NUM_CANDIDATES = 200
_LEAST_S = 1e-3


class FirstStage(StaticContender):
    """The retrieval of a `TwoStage` on its own, which prepares it and lets it learn."""

    def __init__(self, retrieval: Learned) -> None:
        self._retrieval = retrieval

    def prepare(self, training: TrainingData) -> None:
        """Prepare nothing."""

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return the scores of retrieval."""
        return self._retrieval.score(cases)


class TwoStage:
    """Retrieval, and a ranker that learns online which order its candidates have."""

    def __init__(
        self,
        retrieval: Learned,
        config: RankerConfig,
        *,
        seed: int,
        num_candidates: int = NUM_CANDIDATES,
    ) -> None:
        self.retrieval = retrieval
        self.config = config
        self.temperature = retrieval.learner.ranker_params.temperature
        self._ranker = OnlineRanker(config, seed)
        self._num_candidates = num_candidates
        self._policy = JoinPolicy()
        self._uploads: Sequence[VideoUpload] = ()
        self._frozen: FrozenTowers | None = None

    def prepare(self, training: TrainingData) -> None:
        """Let both stages learn the histories."""
        self._uploads = training.uploads
        self.retrieval.prepare(training)
        self._ranker.prepare(training.uploads, training.histories)

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return the scores of retrieval, with the candidates above all others as ranked."""
        score_BN = (self._frozen or self.retrieval).score(cases)
        candidates = self._candidates(score_BN, cases)
        request_M, column_M = candidates.request_M, candidates.row_M - 1
        scores = self._ranker.model.score(*self._inputs(cases, candidates))
        ranked_M = self.order(scores, candidates)
        rest_BN = score_BN.copy()
        rest_BN[request_M, column_M] = -np.inf
        best_B = rest_BN.max(axis=1)
        best_M = np.where(np.isfinite(best_B), best_B, 0.0)[request_M]
        score_BN[request_M, column_M] = best_M + 1.0 + (ranked_M - ranked_M.min(initial=np.inf))
        return score_BN

    def order(self, scores: RankerScores, candidates: Candidates) -> Float64[np.ndarray, "M"]:
        """Return the score of each candidate, as serving computes it."""
        expected_s_M = np.clip(scores.expected_s_M, _LEAST_S, self.config.max_watch_s)
        return blended_score(
            expected_s_M,
            candidates.similarity_M,
            temperature=self.temperature,
            retrieval_weight=self.config.retrieval_weight,
        )

    def observe(self, exposures: Sequence[Exposure]) -> None:
        """Let the ranker learn from what was shown, then retrieval from what was completed."""
        column_B = np.array([one.column for one in exposures], np.int64)
        watch_ms_B = np.array([one.watch_ms for one in exposures], np.int64)
        shown = Candidates(
            np.arange(len(exposures)),
            column_B + 1,
            self.retrieval.similarity(exposures),
            np.zeros(len(exposures), np.int64),  # none of our sources
        )
        labels = RankerLabels(
            np.array([self._is_watched(one) for one in exposures], np.bool_),
            np.array([one.is_completed for one in exposures], np.bool_),
            (watch_ms_B / 1_000).astype(np.float32),
        )
        surface_B = np.array([one.surface for one in exposures], np.int64)
        self._ranker.learn(
            self._inputs(exposures, shown),
            labels,
            ShownVideos(column_B, _times_ms(exposures), surface_B, watch_ms_B),
        )
        self.retrieval.observe(exposures)

    def counting(self) -> None:
        """Return None: only a model alone has weights to stop beside counters."""

    def frozen(self) -> Self:
        """Return a copy of both stages as they are now."""
        copied = copy.copy(self)
        copied._frozen = self.retrieval.frozen()  # noqa: SLF001 - of this class
        copied._ranker = copy.deepcopy(self._ranker)  # noqa: SLF001 - of this class
        return copied

    def _candidates(
        self, score_BN: Float32[np.ndarray, "B N"], cases: Sequence[Case]
    ) -> Candidates:
        """Return the best unseen videos of retrieval, as far as it found any."""
        unseen_BN = score_BN.copy()
        for unseen_N, case in zip(unseen_BN, cases, strict=True):
            unseen_N[list(case.exposed)] = -np.inf
        most = min(self._num_candidates, score_BN.shape[1])
        column_BC = np.argpartition(-unseen_BN, most - 1, axis=1)[:, :most]
        similarity_BC = np.take_along_axis(unseen_BN, column_BC, axis=1)
        places = request_M, _ = np.nonzero(np.isfinite(similarity_BC))
        source_M = np.full(len(request_M), small_code(ANN))
        return Candidates(request_M, column_BC[places] + 1, similarity_BC[places], source_M)

    def _inputs(
        self, requests: Sequence[Case] | Sequence[Exposure], candidates: Candidates
    ) -> RankerInputs:
        windows = [_window(one) for one in requests]
        return self._ranker.inputs(windows, _times_ms(requests), candidates)

    def _is_watched(self, one: Exposure) -> bool:
        return self._policy.is_positive(one.watch_ms, self._uploads[one.column].duration_ms)


def _window(one: Case | Exposure) -> Window:
    return with_context(one.window, surface_context(one.surface))


def _times_ms(ones: Sequence[Case] | Sequence[Exposure]) -> Int64[np.ndarray, "B"]:
    return np.array([one.event_time_ms for one in ones], np.int64)
