"""Rank by one sum of logarithms, before a ranker is trained: preference, popularity, watch time.

    score = similarity_weight * similarity / temperature
          + popularity_weight * log((popularity + popularity_prior) * completion rate)
          + watch_weight      * log(mean watch time in seconds + 1)

The first two terms are the two factors of P(next completed watch | user): retrieval learns
how much likelier *this* user is to watch a video than anybody is, the live counters know how
often anybody comes to it right now and how often it is watched to the end. Order by score,
descending. The same class ranks in serving and in the trainer's progressive validation, so
what is measured is what is served.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np
from jaxtyping import Float, Float32, Integer

from models.features.examples import USUAL_DURATION_MS
from models.features.ranking_features import (
    Candidates,
    PairValues,
    RankingFeatureValues,
    RequestColumns,
    VideoColumns,
    pair_features,
    with_video_features,
)

# Shape legend: B = users, C = candidates of one user, N = rows of the item store,
# D = width of a vector, M = candidates of all users together.


@runtime_checkable
class RankedItems(VideoColumns, Protocol):
    """The video columns that ranking reads, by row; see `models.serving.items.ItemStore`."""

    @property
    def mean_completion_rate(self) -> float:
        """The mean of the completion rates that are known; 1 where none is."""
        ...


@dataclass(frozen=True, slots=True)
class RankedUsers:
    """What rankers may read of the users: the vectors of retrieval, and the requests."""

    vectors_BD: Float32[np.ndarray, "B D"]
    requests: RequestColumns


@dataclass(frozen=True)
class RankingInputs:
    """Everything that a ranker may read to order the candidates of a batch.

    Row 0 in *rows_BC* pads. *source_BC* are the codes of the candidate sources, as of
    `models.features.ranking_features.small_code`. Features are computed when they are first asked
    for, once for whoever ranks by them and whoever logs them: values of one moment.
    """

    similarity_BC: Float[np.ndarray, "B C"]
    rows_BC: Integer[np.ndarray, "B C"]
    source_BC: Integer[np.ndarray, "B C"]
    items: VideoColumns
    users: RankedUsers

    @cached_property
    def column_M(self) -> Integer[np.ndarray, "M"]:
        """The column of each candidate of the flat run; its row is ``candidates.request_M``."""
        return self._places[1]

    @cached_property
    def candidates(self) -> Candidates:
        """The candidates in one flat run, without padding, those of the first request first."""
        places = request_M, column_M = self._places
        return Candidates(
            request_M,
            self.rows_BC[places],
            self.similarity_BC[places],
            self.source_BC[request_M, column_M],
        )

    @cached_property
    def pairs(self) -> PairValues:
        """The features of requests, and of candidates those that depend on the request."""
        return pair_features(self.users.requests, self.candidates, self.items)

    @cached_property
    def features(self) -> RankingFeatureValues:
        """The features of requests and of all candidates of the flat run."""
        return with_video_features(self.pairs, self.candidates, self.items)

    @cached_property
    def _places(self) -> tuple[Integer[np.ndarray, "M"], Integer[np.ndarray, "M"]]:
        request_M, column_M = np.nonzero(self.rows_BC)
        return request_M, column_M


class RankerParams(msgspec.Struct, frozen=True, kw_only=True):
    """The weights of the sum; they travel in the manifest of the bundle."""

    temperature: float = 0.2
    similarity_weight: float = 0.3
    popularity_weight: float = 1.0
    popularity_prior: float = 0.3
    watch_weight: float = 0.0
    unwatched_share: float = 0.3

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if not self.popularity_prior > 0:
            raise ValueError(f"popularity_prior must be above 0, got {self.popularity_prior}")
        if not 0 < self.unwatched_share <= 1:
            raise ValueError(f"unwatched_share must be in (0, 1], got {self.unwatched_share}")


class Ranker:
    """Scores the candidates of many users at once."""

    def __init__(self, params: RankerParams) -> None:
        self.params = params

    def rank(
        self, inputs: RankingInputs
    ) -> tuple[Float[np.ndarray, "B C"], Float[np.ndarray, "B C"]]:
        """Return (expected watch time in milliseconds, score); a padding row 0 scores -inf."""
        assert isinstance(inputs.items, RankedItems)
        return self.scores(inputs.similarity_BC, inputs.rows_BC, inputs.items)

    def scores(
        self,
        similarity_BC: Float[np.ndarray, "B C"],
        rows_BC: Integer[np.ndarray, "B C"],
        items: RankedItems,
    ) -> tuple[Float[np.ndarray, "B C"], Float[np.ndarray, "B C"]]:
        """Return (expected watch time in milliseconds, score); a padding row 0 scores -inf.

        The expected watch time is what people watch of this video, times 0.5 to 1.5 by how
        much the user prefers it to the other candidates, and never more than its duration.
        """
        # few candidates of a large store: look at them alone; all videos for everybody, as the
        # trainer ranks them: each video once
        is_few = rows_BC.size < len(items.popularity_N)
        known = self._of_videos(items, rows_BC if is_few else slice(None))
        prior_BC, watch_ms_BC, longest_ms_BC = known if is_few else (x_N[rows_BC] for x_N in known)
        preference_BC = similarity_BC * (self.params.similarity_weight / self.params.temperature)
        is_there_BC = rows_BC > 0
        score_BC = np.where(is_there_BC, preference_BC + prior_BC, -np.inf)
        lift_BC = 0.5 + _share_below(preference_BC, is_there_BC)
        expected_BC = np.where(is_there_BC, watch_ms_BC * lift_BC, 0.0)
        return np.minimum(expected_BC, longest_ms_BC), score_BC

    @property
    def adds_terms(self) -> bool:
        """Whether anything but similarity decides the order."""
        params = self.params
        return not (
            params.similarity_weight > 0 and params.popularity_weight == params.watch_weight == 0
        )

    def order(
        self, similarity_BN: Float[np.ndarray, "B N"], items: RankedItems
    ) -> Float[np.ndarray, "B N"]:
        """Return the scores alone of all videos; column n is row n + 1, -inf stays as it is."""
        prior_N = self._of_videos(items, slice(1, similarity_BN.shape[1] + 1))[0]
        weight = self.params.similarity_weight / self.params.temperature
        is_there_BN = np.isfinite(similarity_BN)
        score_BN: np.ndarray = np.where(is_there_BN, similarity_BN * weight + prior_N, -np.inf)
        return score_BN

    def _of_videos(
        self, items: RankedItems, rows: Integer[np.ndarray, "..."] | slice
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return, for *rows*, the terms that no user changes, usual watch time, and length."""
        params = self.params
        duration_ms, mean_ms = items.duration_ms_N[rows], items.mean_watch_ms_N[rows]
        length_ms = np.where(duration_ms > 0, duration_ms, USUAL_DURATION_MS)
        watch_ms = np.where(mean_ms > 0, mean_ms, length_ms * params.unwatched_share)
        rate = items.completion_rate_N[rows]
        rate = np.where(rate > 0, rate, items.mean_completion_rate)
        popularity = items.popularity_N[rows] + params.popularity_prior
        prior = params.popularity_weight * np.log(popularity * rate)
        prior = prior + params.watch_weight * np.log1p(watch_ms / 1_000)
        return prior, watch_ms, np.where(duration_ms > 0, duration_ms, np.inf)


def blended_score(
    expected_s_M: Float[np.ndarray, "M"],
    similarity_M: Float[np.ndarray, "M"],
    *,
    temperature: float,
    retrieval_weight: float,
) -> Float[np.ndarray, "M"]:
    """Return the score of a trained ranker, in serving and in evaluation.

    Expected watch time is learned from what was shown, and says little of how much likelier this
    user is to come to a video than to any other of the catalogue; that is what retrieval's logit,
    the similarity by its *temperature*, says.
    """
    score_M: np.ndarray = np.log(expected_s_M) + (retrieval_weight / temperature) * similarity_M
    return score_M


def mean_known(rate_N: Float[np.ndarray, "N"]) -> float:
    """Return the mean of the rates above 0; 1 where there is none."""
    known = rate_N[rate_N > 0]
    return float(known.mean()) if len(known) else 1.0


def _share_below(
    preference_BC: Float[np.ndarray, "B C"], is_there_BC: np.ndarray
) -> Float[np.ndarray, "B C"]:
    """Return a soft rank in 0..1 of each preference among the candidates of its user."""
    count_B1 = np.maximum(is_there_BC.sum(axis=1, keepdims=True), 1)
    kept_BC = np.where(is_there_BC, preference_BC, 0.0)
    mean_B1 = kept_BC.sum(axis=1, keepdims=True) / count_B1
    centred_BC = np.where(is_there_BC, kept_BC - mean_B1, 0.0)
    spread_B1 = np.sqrt((centred_BC**2).sum(axis=1, keepdims=True) / count_B1) + 1e-6
    share_BC: np.ndarray = 1.0 / (1.0 + np.exp(-centred_BC / spread_B1))
    return share_BC
