"""Ranking, simple on purpose: preference, popularity and watch time in one sum of logarithms.

    score = similarity_weight * similarity / temperature
          + popularity_weight * log((popularity + popularity_prior) * completion rate)
          + watch_weight      * log(mean watch time in seconds + 1)

The first two terms are the two factors of P(next completed watch | user): retrieval learns
how much likelier *this* user is to watch a video than anybody is, the live counters know how
often anybody comes to it right now and how often it is watched to the end. Order by score,
descending. The same class ranks in serving and in the trainer's progressive validation, so
what is measured is what is served.
"""

from typing import Protocol, runtime_checkable

import msgspec
import numpy as np
from jaxtyping import Float, Integer

# Shape legend: B = users, C = candidates of one user, N = rows of the item store.


@runtime_checkable
class RankedItems(Protocol):
    """What ranking reads of the videos, by row; `models.items.ItemStore` has it."""

    @property
    def popularity_N(self) -> Float[np.ndarray, "N"]:
        """The decayed watch count."""
        ...

    @property
    def completion_rate_N(self) -> Float[np.ndarray, "N"]:
        """The share of watches that were completed, 0 where it is not known."""
        ...

    @property
    def mean_watch_ms_N(self) -> Float[np.ndarray, "N"]:
        """The mean watch time, 0 where nobody has watched yet."""
        ...

    @property
    def duration_ms_N(self) -> Float[np.ndarray, "N"]:
        """The length of the video, 0 where it is not known."""
        ...


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
        self,
        similarity_BC: Float[np.ndarray, "B C"],
        rows_BC: Integer[np.ndarray, "B C"],
        items: RankedItems,
    ) -> tuple[Float[np.ndarray, "B C"], Float[np.ndarray, "B C"]]:
        """Return (expected watch time in milliseconds, score); a padding row 0 scores -inf.

        The expected watch time is what people watch of this video, times 0.5 to 1.5 by how
        much the user prefers it to the other candidates, and never more than its duration.
        """
        params = self.params
        watch_ms_N = self._usual_watch_ms(items)
        completed_N = (items.popularity_N + params.popularity_prior) * _known_rates(items)
        prior_N = params.popularity_weight * np.log(completed_N)
        prior_N = prior_N + params.watch_weight * np.log1p(watch_ms_N / 1_000)
        preference_BC = similarity_BC * (params.similarity_weight / params.temperature)
        is_there_BC = rows_BC > 0
        score_BC = np.where(is_there_BC, preference_BC + prior_N[rows_BC], -np.inf)
        lift_BC = 0.5 + _share_below(preference_BC, is_there_BC)
        expected_BC = np.where(is_there_BC, watch_ms_N[rows_BC] * lift_BC, 0.0)
        longest_N = np.where(items.duration_ms_N > 0, items.duration_ms_N, np.inf)
        return np.minimum(expected_BC, longest_N[rows_BC]), score_BC

    def _usual_watch_ms(self, items: RankedItems) -> Float[np.ndarray, "N"]:
        unwatched_N = items.duration_ms_N * self.params.unwatched_share
        return np.where(items.mean_watch_ms_N > 0, items.mean_watch_ms_N, unwatched_N)


def _known_rates(items: RankedItems) -> Float[np.ndarray, "N"]:
    """Return the completion rates, with the average in place of those that are not known."""
    rate_N = items.completion_rate_N
    is_known_N = rate_N > 0
    average = rate_N[is_known_N].mean() if is_known_N.any() else 1.0
    return np.where(is_known_N, rate_N, average)


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
