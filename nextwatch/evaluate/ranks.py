"""Rank the watched videos, and compute all measures from the ranks.

A rank is kept as two counts: candidates that scored better, and candidates that scored the
same. Ties are drawn by lot, and every measure is its expectation over that draw, so that a
contender which scores everything alike is as good as chance and no better.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

# Shape legend: B = cases of a batch, Q = all cases, N = videos, M = measures, U = users,
# R = resamples, K = videos shown.

CUTOFFS = (10, 20, 50, 100, 200)
MEASURES = (*(f"recall_at_{k}" for k in CUTOFFS), "ndcg_at_10", "mrr")
TOP = 100
NUM_RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class Ranks:
    """The ranks of some cases, and the columns of the first `TOP` videos of each, concatenated."""

    num_better_Q: Int64[np.ndarray, "Q"]
    num_equal_Q: Int64[np.ndarray, "Q"]
    shown_K: Int32[np.ndarray, "K"]


@dataclass(frozen=True, slots=True)
class RankTally:
    """The ranks of all cases, and how often each video was among the first `TOP`."""

    num_better_Q: Int64[np.ndarray, "Q"]
    num_equal_Q: Int64[np.ndarray, "Q"]
    num_shown_N: Int64[np.ndarray, "N"]


def rank(
    score_BN: Float32[np.ndarray, "B N"],
    labels: Sequence[int],
    exposed: Sequence[Sequence[int]],
    *,
    top: int = TOP,
) -> Ranks:
    """Return the ranks of *labels* among all videos but those that each user was *exposed* to.

    *score_BN* is overwritten. What scores -inf is no better than what was not found: it ranks
    behind everything else, and is shown to nobody. The first *top* videos of each are shown;
    with 0 they are not looked for, which takes as long as all else.

    Raises:
        ValueError: a score is not a number.
    """
    if np.isnan(score_BN).any():
        raise ValueError("a contender gave a score that is not a number")
    for score_N, columns in zip(score_BN, exposed, strict=True):
        score_N[list(columns)] = np.nan  # neither better than anything nor equal to it
    label_B1 = np.take_along_axis(score_BN, np.array(labels, np.intp)[:, None], axis=1)
    if np.isnan(label_B1).any():
        raise ValueError("a case asks for a video that its user has been shown")
    return Ranks(
        num_better_Q=(score_BN > label_B1).sum(axis=1),
        num_equal_Q=(score_BN == label_B1).sum(axis=1),
        shown_K=_shown(score_BN, min(top, score_BN.shape[1])),
    )


def _shown(score_BN: Float32[np.ndarray, "B N"], most: int) -> Int32[np.ndarray, "K"]:
    """Return the columns of the up to *most* best videos of each row, one row after the other."""
    if not most:
        return np.zeros(0, np.int32)
    shown_BK = np.argpartition(-score_BN, most - 1, axis=1)[:, :most]
    is_shown_BK = np.isfinite(np.take_along_axis(score_BN, shown_BK, axis=1))
    shown_K: np.ndarray = shown_BK[is_shown_BK].astype(np.int32)
    return shown_K


def joined(ranks: Sequence[Ranks], num_videos: int) -> RankTally:
    """Return the ranks of all batches together."""
    shown_K = np.concatenate([np.zeros(0, np.int32), *(one.shown_K for one in ranks)])
    return RankTally(
        np.concatenate([np.zeros(0, np.int64), *(one.num_better_Q for one in ranks)]),
        np.concatenate([np.zeros(0, np.int64), *(one.num_equal_Q for one in ranks)]),
        np.bincount(shown_K, minlength=num_videos),
    )


def gains(ranks: Ranks | RankTally) -> Float64[np.ndarray, "Q M"]:
    """Return what each case adds to each of `MEASURES`, in expectation over ties."""
    last = ranks.num_better_Q + ranks.num_equal_Q
    place = np.arange(1, int(last.max(initial=0)) + 1)
    worth = [(place <= k).astype(np.float64) for k in CUTOFFS]
    worth += [np.where(place <= 10, 1 / np.log2(place + 1), 0.0), 1 / place]  # noqa: PLR2004 - NDCG@10
    columns = []
    for of_place in worth:
        total = np.concatenate([[0.0], np.cumsum(of_place)])
        columns.append((total[last] - total[ranks.num_better_Q]) / ranks.num_equal_Q)
    return np.stack(columns, axis=1)


def means(gain_QM: Float64[np.ndarray, "Q M"]) -> dict[str, float]:
    """Return the mean of each measure by name; zeros without any case."""
    mean_M = gain_QM.mean(axis=0) if len(gain_QM) else np.zeros(len(MEASURES))
    return {name: float(value) for name, value in zip(MEASURES, mean_M, strict=True)}


def intervals(
    gain_QM: Float64[np.ndarray, "Q M"], user_ids: Sequence[str], *, seed: int = 0
) -> dict[str, list[float]]:
    """Return the bounds between which 95 % of `NUM_RESAMPLES` draws of *users* have each mean.

    Users are drawn, not cases: those of one user go together.
    """
    if not len(gain_QM):
        return {name: [0.0, 0.0] for name in MEASURES}
    _, user_Q = np.unique(np.asarray(user_ids), return_inverse=True)
    num_users = int(user_Q.max()) + 1
    total_UM = np.zeros((num_users, len(MEASURES)))
    np.add.at(total_UM, user_Q, gain_QM)
    count_U = np.bincount(user_Q, minlength=num_users).astype(np.float64)
    draw = np.random.Generator(np.random.PCG64(seed))
    mean_RM = np.empty((NUM_RESAMPLES, len(MEASURES)))
    for resample in range(NUM_RESAMPLES):
        times_U = np.bincount(draw.integers(num_users, size=num_users), minlength=num_users)
        mean_RM[resample] = times_U @ total_UM / (times_U @ count_U)
    low_M, high_M = np.percentile(mean_RM, [2.5, 97.5], axis=0)
    return {
        name: [float(low), float(high)]
        for name, low, high in zip(MEASURES, low_M, high_M, strict=True)
    }


def spread(num_shown_N: Int64[np.ndarray, "N"]) -> dict[str, float]:
    """Return the share of the catalogue that was shown, and its inequality (Gini, 0 to 1)."""
    count_N = np.sort(num_shown_N).astype(np.float64)
    num_videos = len(count_N)
    total = float(count_N.sum())
    if not total:
        return {f"coverage_at_{TOP}": 0.0, f"gini_at_{TOP}": 0.0}
    place_N = np.arange(1, num_videos + 1)
    gini = float((2 * place_N - num_videos - 1) @ count_N / (num_videos * total))
    return {f"coverage_at_{TOP}": float((count_N > 0).mean()), f"gini_at_{TOP}": gini}


def summary(
    by_seed: Sequence[RankTally],
    user_ids: Sequence[str],
    periods: Sequence[str],
    is_cold: Sequence[bool] = (),
) -> dict[str, Any]:
    """Return the figures of one contender: measures, spread, intervals, periods, cold videos.

    Seeds are averaged case by case, so intervals tell of users and not of seeds; ``by_seed`` has
    the measures of each. ``cold`` has the cases that are said to be cold, where that is known.
    """
    each = [gains(ranks) for ranks in by_seed]
    gain_QM = np.mean(each, axis=0)
    cold_Q = np.asarray(is_cold, bool) if len(is_cold) else np.zeros(len(gain_QM), bool)
    spreads = [spread(ranks.num_shown_N) for ranks in by_seed]
    period_Q = np.asarray(periods, dtype=object)
    by_period = {
        period: {"n": int((period_Q == period).sum()), **means(gain_QM[period_Q == period])}
        for period in sorted(set(periods))
    }
    return {
        **means(gain_QM),
        **{name: float(np.mean([one[name] for one in spreads])) for name in spreads[0]},
        "n": len(gain_QM),
        "intervals": intervals(gain_QM, user_ids),
        "per_day": by_period,
        "cold": {"n": int(cold_Q.sum()), **means(gain_QM[cold_Q])},
        "by_seed": [means(one) for one in each],
    }
