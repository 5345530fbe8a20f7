"""Log the exact features that recommended videos were ranked by, for the trainer of the ranker.

A ranker must learn from what it will read in serving. So what was read is written down, and nothing
is computed a second time: there is no other place where training and serving could differ. Which
recommendations are logged follows from their ids, so a repeated one is logged again or not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64, Integer

from contract.points import point_id
from contract.wire.events import MAX_HISTORY, RankingLog, Recommendation
from models.features.ranking_features import VERSION, RequestColumns, video_features
from models.serving.ranker_history import completed_flags
from models.serving.ranking import RankingInputs
from streams.serving.generation import Serving
from streams.serving.requests import Request

# Shape legend: B = requests, C = candidates of one, K = those recommended, D = width of a vector,
# U = features of a request, P = of a pair, F = of a candidate, H = watches of all requests.

_DRAWN_BITS = 32


@dataclass(frozen=True, slots=True)
class RankedFeatures:
    """What the requests of a batch and their best candidates were ranked by, best first."""

    requests: Sequence[Request]
    vectors_BD: Float32[np.ndarray, "B D"]
    context_BU: Float32[np.ndarray, "B U"]
    candidates_BKF: Float32[np.ndarray, "B K F"]
    history_points_H: Int64[np.ndarray, "H"]
    is_completed_H: Bool[np.ndarray, "H"]
    end_B: Int64[np.ndarray, "B"]

    @classmethod
    def of(
        cls,
        requests: Sequence[Request],
        inputs: RankingInputs,
        columns_BK: Integer[np.ndarray, "B K"],
        serving: Serving,
    ) -> "RankedFeatures":
        """Return what *inputs* have of the candidates in these columns.

        To be called while the item store stands still: its features are those of the ranking.
        """
        windows = [request.window for request in requests]
        size_B = (inputs.rows_BC > 0).sum(axis=1)  # candidates stand in front of the padding
        start_B1 = (np.cumsum(size_B) - size_B)[:, None]
        pair_MP, rows_BK = inputs.pairs.pair_MP, np.take_along_axis(inputs.rows_BC, columns_BK, 1)
        place_BK = np.minimum(start_B1 + columns_BK, max(len(pair_MP) - 1, 0))
        pair_BKP = np.zeros((*rows_BK.shape, pair_MP.shape[1]), np.float32)
        if len(pair_MP):
            pair_BKP = pair_MP[place_BK]
        video_BKF = video_features(inputs.items, rows_BK.ravel()).reshape(*rows_BK.shape, -1)
        return cls(
            requests,
            inputs.users.vectors_BD,
            inputs.pairs.context_BU,
            np.concatenate([pair_BKP, video_BKF], axis=2),
            _points(inputs.users.requests, serving),
            completed_flags(windows, serving.completion),
            np.cumsum([len(window.watches) for window in windows]),
        )

    def history(self, number: int) -> tuple[bytes, bytes]:
        """Return the newest watches of request *number* and which of them were completed."""
        end, size = int(self.end_B[number]), len(self.requests[number].window.watches)
        newest = slice(end - min(size, MAX_HISTORY), end)
        return self.history_points_H[newest].tobytes(), self.is_completed_H[newest].tobytes()


def _points(requests: RequestColumns, serving: Serving) -> Int64[np.ndarray, "H"]:
    """Return the points of all watches, those of known videos by their rows.

    Hashing the fifty video ids of a window anew takes longer than ranking its candidates.
    """
    point_H = serving.points.points(requests.watch_row_H).astype("<i8")
    unknown = np.flatnonzero(requests.watch_row_H == 0).tolist()
    if unknown:
        video_ids = [video_id for window in requests.windows for video_id in window.video_ids]
        point_H[unknown] = [point_id(video_ids[place]) for place in unknown]
    return point_H


class FeatureLog:
    """Makes the records of `ranking-log` for a *share* of the recommendations."""

    def __init__(self, share: float) -> None:
        self._limit = round(share * (1 << _DRAWN_BITS))

    @property
    def is_on(self) -> bool:
        """Whether anything is logged."""
        return self._limit > 0

    def is_logged(self, recommendation_id: str) -> bool:
        """Return whether the features of this recommendation are logged."""
        return int(recommendation_id[: _DRAWN_BITS // 4], 16) < self._limit

    def record(
        self, recommendation: Recommendation, features: RankedFeatures, number: int
    ) -> RankingLog:
        """Return the record of a recommendation that answers request *number*."""
        candidates_KF = features.candidates_BKF[number, : len(recommendation.items)]
        history, history_completed = features.history(number)
        return RankingLog(
            recommendation_id=recommendation.recommendation_id,
            user_id=recommendation.user_id,
            generated_at_ms=recommendation.generated_at_ms,
            bundle_id=recommendation.bundle_id,
            generation=recommendation.generation,
            feature_version=VERSION,
            video_ids=[item.video_id for item in recommendation.items],
            context=features.context_BU[number].astype("<f4").tobytes(),
            user_vector=features.vectors_BD[number].astype("<f4").tobytes(),
            candidates=candidates_KF.astype("<f4").tobytes(),
            history=history,
            history_completed=history_completed,
            next_offsets=dict(features.requests[number].next_offsets),
        )
