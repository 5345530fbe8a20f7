"""Log the exact features that recommended videos were ranked by, for the trainer of the ranker.

A ranker must learn from what it will read in serving. So what was read is written down, and nothing
is computed a second time: there is no other place where training and serving could differ. Which
recommendations are logged follows from their ids, so a repeated one is logged again or not at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Integer

from contract.wire.events import RankingLog, Recommendation
from models.features.ranking_features import VERSION, RankingFeatureValues

# Shape legend: B = requests, K = candidates kept of each, M = candidates of all requests,
# D = width of a vector.

_DRAWN_BITS = 32


@dataclass(frozen=True, slots=True)
class LoggedFeatures:
    """What the requests of a batch were ranked by.

    *places_BK* says where in `RankingFeatureValues.candidate_MF` the best candidates stand, best
    first; *next_offsets* are those of `streams.serving.requests.Request`.
    """

    values: RankingFeatureValues
    vectors_BD: Float32[np.ndarray, "B D"]
    places_BK: Integer[np.ndarray, "B K"]
    next_offsets: Sequence[Mapping[str, int]]


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
        self, recommendation: Recommendation, features: LoggedFeatures, number: int
    ) -> RankingLog:
        """Return the record of a recommendation that answers request *number*."""
        places_K = features.places_BK[number, : len(recommendation.items)]
        return RankingLog(
            recommendation_id=recommendation.recommendation_id,
            user_id=recommendation.user_id,
            generated_at_ms=recommendation.generated_at_ms,
            bundle_id=recommendation.bundle_id,
            generation=recommendation.generation,
            feature_version=VERSION,
            video_ids=[item.video_id for item in recommendation.items],
            context=features.values.context_BU[number].astype("<f4").tobytes(),
            user_vector=features.vectors_BD[number].astype("<f4").tobytes(),
            candidates=features.values.candidate_MF[places_K].astype("<f4").tobytes(),
            next_offsets=dict(features.next_offsets[number]),
        )
