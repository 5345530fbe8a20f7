"""Take a served score apart: retrieval's part, the ranker's part, and what rules changed.

Scores are recorded as one number. Its parts follow from values that are recorded beside it
(similarity, expected watch time, features of the video) and from the weights in the bundle. What
is left between their sum and the score is what the rules on scores did: skips push away, and what
matches a search is put first.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from models.bundle.bundle import Bundle
from models.features.ranking_features import UNKNOWN
from models.serving.ranker_tables import MODEL as RANKER_MODEL
from models.serving.ranker_tables import card_of
from models.serving.ranking import RankerParams

TOLERANCE = 2e-3
"""Scores are float32 and rounded, and expected watch time to a tenth of a millisecond."""


class ScoreParts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of one score; None is a part that does not follow from what is recorded.

    *retrieval* and *ranker* add up to *blended*; *rules* is what the score differs from it.
    """

    retrieval: float | None = None
    ranker: float | None = None
    blended: float | None = None
    rules: float | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """How the bundle of a recommendation made one score of several values."""

    ranker_name: str
    params: RankerParams
    retrieval_weight: float | None = None
    """Of a trained ranker; None where candidates are ordered by `models.serving.ranking`."""

    @classmethod
    def of(cls, bundle: Bundle) -> "Weights":
        """Return the weights in *bundle*.

        Raises:
            BundleError: the card of its ranker cannot be read.
        """
        params = bundle.manifest.ranker
        if RANKER_MODEL not in bundle.files:
            return cls("sum of logarithms, no trained ranker yet", params)
        card = card_of(bundle)
        return cls(card.name, params, card.retrieval_weight)

    def parts(
        self,
        *,
        score: float,
        expected_watch_ms: float,
        similarity: float,
        video: Mapping[str, float],
    ) -> ScoreParts:
        """Return the parts of *score*; *video* are the logged features of the video."""
        if self.retrieval_weight is None:
            retrieval = similarity * self.params.similarity_weight / self.params.temperature
            ranker = self._popularity(video)
        else:
            retrieval = similarity * self.retrieval_weight / self.params.temperature
            seconds = expected_watch_ms / 1_000
            ranker = math.log(seconds) if seconds > 0 else None
        if ranker is None:
            return ScoreParts(retrieval=retrieval)
        blended = retrieval + ranker
        return ScoreParts(
            retrieval=retrieval, ranker=ranker, blended=blended, rules=score - blended
        )

    def _popularity(self, video: Mapping[str, float]) -> float | None:
        """Return the term of popularity; a rate that was not known was the mean of all videos."""
        rate, watches = video.get("completion_rate", 0.0), video.get("watches", UNKNOWN)
        if not self.params.popularity_weight and not self.params.watch_weight:
            return 0.0
        if rate <= 0 or watches < 0 or self.params.watch_weight:
            return None
        popularity = watches + self.params.popularity_prior
        return self.params.popularity_weight * math.log(popularity * rate)
