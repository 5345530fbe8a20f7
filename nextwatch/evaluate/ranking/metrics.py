"""Compute the figures of a ranker from its scores: pure functions of arrays, one row an exposure.

Figures *within users* compare exposures of one user only. Pairs of equal scores count half,
so that a constant score is as good as chance in every figure of order.

Sources:
    Covington, Adams, Sargin, Deep Neural Networks for YouTube Recommendations, RecSys 2016,
    section 4.3 (weighted per-user loss), https://doi.org/10.1145/2959100.2959190
    Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018 (GAUC),
    https://doi.org/10.1145/3219819.3219823
    Zhan et al., Deconfounding Duration Bias in Watch-time Prediction, KDD 2022 (XAUC),
    https://doi.org/10.1145/3534678.3539092
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.stats import kendalltau

# Shape legend: E = exposures, U = users, G = runs of equal scores within a user, D = days,
# Q = quantiles.

_LEAST_P = 1e-7


class UserPairs(NamedTuple):
    """What each user adds to a figure of pairs: the part that is misordered, of how much.

    A pair is a positive and a negative of one user, and is worth what its positive is worth.
    """

    lost_U: Float64[np.ndarray, "U"]
    total_U: Float64[np.ndarray, "U"]


class UserMeans(NamedTuple):
    """What each user adds to a weighted mean: the figure is the sum of one over the other."""

    sum_U: Float64[np.ndarray, "U"]
    weight_U: Float64[np.ndarray, "U"]

    @property
    def mean(self) -> float:
        """The figure; nan if no user has any weight."""
        weight = float(self.weight_U.sum())
        return float(self.sum_U.sum()) / weight if weight else float("nan")


def auc(
    is_positive_E: Bool[np.ndarray, "E"],
    score_E: Float64[np.ndarray, "E"],
    weight_E: Float64[np.ndarray, "E"] | None = None,
) -> float:
    """Return the share of all pairs of a positive and a negative that are in order.

    *weight_E* counts an exposure that many times. Nan without a positive or a negative.
    """
    return SortedScores(is_positive_E, score_E).auc(weight_E)


class SortedScores:
    """Scores sorted once, for the AUC of many weightings of the same exposures."""

    def __init__(
        self, is_positive_E: Bool[np.ndarray, "E"], score_E: Float64[np.ndarray, "E"]
    ) -> None:
        self._order_E = np.argsort(score_E, kind="stable")
        ordered_E = score_E[self._order_E]
        self._starts_G = np.flatnonzero(np.diff(ordered_E, prepend=-np.inf) > 0)
        self._is_positive_E = is_positive_E[self._order_E]

    def auc(self, weight_E: Float64[np.ndarray, "E"] | None = None) -> float:
        """Return the AUC with each exposure counted *weight_E* times."""
        if not len(self._order_E):
            return float("nan")
        ordered_E = np.ones(len(self._order_E)) if weight_E is None else weight_E[self._order_E]
        positive_G = np.add.reduceat(ordered_E * self._is_positive_E, self._starts_G)
        negative_G = np.add.reduceat(ordered_E * ~self._is_positive_E, self._starts_G)
        below_G = np.cumsum(negative_G) - negative_G
        pairs = positive_G.sum() * negative_G.sum()
        return float(positive_G @ (below_G + negative_G / 2) / pairs) if pairs else float("nan")


def user_pairs(
    user_E: Int64[np.ndarray, "E"],
    is_positive_E: Bool[np.ndarray, "E"],
    score_E: Float64[np.ndarray, "E"],
    worth_E: Float64[np.ndarray, "E"] | None = None,
) -> UserPairs:
    """Return the pairs of each user in which the negative is scored above the positive.

    Users are codes from 0. A pair is worth *worth_E* of its positive, or 1.
    """
    num_users = int(user_E.max(initial=-1)) + 1
    if not len(user_E):
        return UserPairs(np.zeros(0), np.zeros(0))
    order_E = np.lexsort((score_E, user_E))
    user, positive, score = user_E[order_E], is_positive_E[order_E], score_E[order_E]
    worth = np.ones(len(user)) if worth_E is None else worth_E[order_E].astype(np.float64)
    is_start_E = np.ones(len(user), np.bool_)
    is_start_E[1:] = (user[1:] != user[:-1]) | (score[1:] != score[:-1])
    starts_G = np.flatnonzero(is_start_E)
    negatives_G = np.add.reduceat((~positive).astype(np.float64), starts_G)
    worth_G = np.add.reduceat(worth * positive, starts_G)
    user_G = user[starts_G]
    negatives_U = np.bincount(user_G, negatives_G, minlength=num_users)
    up_to_user_U = np.cumsum(negatives_U) - negatives_U
    above_G = negatives_U[user_G] - (np.cumsum(negatives_G) - up_to_user_U[user_G])
    lost_U = np.bincount(user_G, worth_G * (above_G + negatives_G / 2), minlength=num_users)
    worth_U = np.bincount(user_G, worth_G, minlength=num_users)
    return UserPairs(lost_U, worth_U * negatives_U)


def rank_loss(pairs: UserPairs) -> UserMeans:
    """Return the share of users' pairs that is misordered, all pairs alike.

    With watch time as the worth of pairs it is the weighted per-user loss of Covington 2016.
    """
    return UserMeans(pairs.lost_U, pairs.total_U)


def gauc(pairs: UserPairs, weight_U: Float64[np.ndarray, "U"]) -> UserMeans:
    """Return the mean AUC of the users that have a positive and a negative, weighted.

    *pairs* are of worth 1.
    """
    counts_U = pairs.total_U > 0
    auc_U = 1.0 - pairs.lost_U / np.where(counts_U, pairs.total_U, 1.0)
    return UserMeans(np.where(counts_U, weight_U * auc_U, 0.0), np.where(counts_U, weight_U, 0.0))


def ndcg_at(
    k: int,
    user_E: Int64[np.ndarray, "E"],
    is_positive_E: Bool[np.ndarray, "E"],
    score_E: Float64[np.ndarray, "E"],
    *,
    is_zero_without_positive: bool,
) -> UserMeans:
    """Return the normalised discounted gain of the first *k* exposures of each user, by score.

    A user without a positive counts as 0, or not at all. The gain of exposures with equal
    scores is the mean over their places.
    """
    place_E, gain_E = _places(user_E, is_positive_E, score_E)
    num_users = int(user_E.max(initial=-1)) + 1
    discount = np.where(
        np.arange(len(user_E) + 1) < k, 1 / np.log2(np.arange(len(user_E) + 1) + 2), 0.0
    )
    dcg_U = np.bincount(
        user_E, gain_E * discount[np.minimum(place_E, len(user_E))], minlength=num_users
    )
    positives_U = np.bincount(user_E, is_positive_E, minlength=num_users).astype(np.int64)
    best_U = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(positives_U, len(user_E))]
    ndcg_U = np.where(positives_U > 0, dcg_U / np.where(best_U > 0, best_U, 1.0), 0.0)
    is_shown_U = np.bincount(user_E, minlength=num_users) > 0
    counts_U = is_shown_U if is_zero_without_positive else is_shown_U & (positives_U > 0)
    return UserMeans(np.where(counts_U, ndcg_U, 0.0), counts_U.astype(np.float64))


def precision_and_recall_at(
    k: int,
    user_E: Int64[np.ndarray, "E"],
    is_positive_E: Bool[np.ndarray, "E"],
    score_E: Float64[np.ndarray, "E"],
) -> tuple[UserMeans, UserMeans]:
    """Return precision and recall of the first *k* exposures of each user with a positive.

    A user with fewer exposures than *k* is measured over those there are.
    """
    place_E, gain_E = _places(user_E, is_positive_E, score_E)
    num_users = int(user_E.max(initial=-1)) + 1
    found_U = np.bincount(user_E, gain_E * (place_E < k), minlength=num_users)
    shown_U = np.minimum(np.bincount(user_E, minlength=num_users), k)
    positives_U = np.bincount(user_E, is_positive_E, minlength=num_users)
    counts_U = (positives_U > 0).astype(np.float64)
    precision_U = counts_U * found_U / np.maximum(shown_U, 1)
    recall_U = counts_U * found_U / np.maximum(positives_U, 1)
    return UserMeans(precision_U, counts_U), UserMeans(recall_U, counts_U)


def _places(
    user_E: Int64[np.ndarray, "E"],
    is_positive_E: Bool[np.ndarray, "E"],
    score_E: Float64[np.ndarray, "E"],
) -> tuple[Int64[np.ndarray, "E"], Float64[np.ndarray, "E"]]:
    """Return the place of each exposure among its user's by falling score, and its gain.

    The gain is that of the exposures with the same score on average: 1 for positives, or less.
    """
    place_E, gain_E = np.zeros(len(user_E), np.int64), np.zeros(len(user_E))
    if not len(user_E):
        return place_E, gain_E
    order_E = np.lexsort((-score_E, user_E))
    user, score = user_E[order_E], score_E[order_E]
    is_user_E = np.ones(len(user), np.bool_)
    is_user_E[1:] = user[1:] != user[:-1]
    first_E = np.maximum.accumulate(np.where(is_user_E, np.arange(len(user)), 0))
    is_start_E = is_user_E.copy()
    is_start_E[1:] |= score[1:] != score[:-1]
    group_E = np.cumsum(is_start_E) - 1
    mean_G = np.bincount(group_E, is_positive_E[order_E]) / np.bincount(group_E)
    place_E[order_E] = np.arange(len(user)) - first_E
    gain_E[order_E] = mean_G[group_E]
    return place_E, gain_E


def user_sums(
    user_E: Int64[np.ndarray, "E"],
    value_E: Float64[np.ndarray, "E"],
    weight_E: Float64[np.ndarray, "E"] | None = None,
) -> UserMeans:
    """Return the sums of *value_E* and of *weight_E* (each 1 without it) by user."""
    num_users = int(user_E.max(initial=-1)) + 1
    return UserMeans(
        np.bincount(user_E, value_E, minlength=num_users),
        np.bincount(user_E, weight_E, minlength=num_users).astype(np.float64),
    )


def log_losses(
    is_positive_E: Bool[np.ndarray, "E"], p_E: Float64[np.ndarray, "E"]
) -> Float64[np.ndarray, "E"]:
    """Return the negative log-likelihood of each label; probabilities are kept off 0 and 1."""
    bounded_E = np.clip(p_E, _LEAST_P, 1 - _LEAST_P)
    loss_E: np.ndarray = -np.log(np.where(is_positive_E, bounded_E, 1 - bounded_E))
    return loss_E


def xauc(watch_E: Float64[np.ndarray, "E"], predicted_E: Float64[np.ndarray, "E"]) -> float:
    """Return the share of all pairs with different watch times that are predicted in order.

    Of pairs that differ in watch time, Kendall's tau-b has those in order minus those out of
    order; a pair of equal predictions counts half.
    """
    num_pairs = len(watch_E) * (len(watch_E) - 1) / 2
    differ = num_pairs - _equal_pairs(watch_E)
    predicted_differ = num_pairs - _equal_pairs(predicted_E)
    if not differ:
        return float("nan")
    if not predicted_differ:
        return 0.5
    tau = float(kendalltau(watch_E, predicted_E).statistic)
    return 0.5 + 0.5 * tau * float(np.sqrt(predicted_differ / differ))


def _equal_pairs(value_E: Float64[np.ndarray, "E"]) -> float:
    _, count = np.unique(value_E, return_counts=True)
    return float((count * (count - 1.0) / 2).sum())


class Bucket(NamedTuple):
    """Exposures with like predictions or durations: what was predicted, and what was observed."""

    upper: float
    num_exposures: int
    predicted: float
    observed: float

    @property
    def ratio(self) -> float:
        """The predicted over the observed; nan if nothing was observed."""
        return self.predicted / self.observed if self.observed else float("nan")


def calibration(
    by_E: Float64[np.ndarray, "E"],
    predicted_E: Float64[np.ndarray, "E"],
    observed_E: Float64[np.ndarray, "E"],
    *,
    num_buckets: int = 10,
) -> list[Bucket]:
    """Return mean prediction and mean observation by decile of *by_E*, lowest first.

    Exposures with equal values of *by_E* are in one bucket: there may be fewer than ten.
    """
    if not len(by_E):
        return []
    edges_Q = np.unique(
        np.quantile(by_E, np.linspace(0, 1, num_buckets + 1)[1:], method="inverted_cdf")
    )
    bucket_E = np.searchsorted(edges_Q, by_E)
    buckets = []
    for bucket, upper in enumerate(edges_Q.tolist()):
        inside_E = bucket_E == bucket
        buckets.append(
            Bucket(
                upper=upper,
                num_exposures=int(inside_E.sum()),
                predicted=float(predicted_E[inside_E].mean()),
                observed=float(observed_E[inside_E].mean()),
            )
        )
    return buckets
