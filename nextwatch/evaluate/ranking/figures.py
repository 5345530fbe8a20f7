"""Sum up the scores of one contender: figures with intervals, by day, and calibration.

AUC, log loss, watch time and calibration are of the live reading; order within users is of own
state still. Seeds are averaged figure by figure; intervals are of users and not of seeds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from nextwatch.evaluate.ranking import metrics
from nextwatch.evaluate.ranking.contender import Outcomes
from nextwatch.evaluate.ranking.metrics import SortedScores, UserMeans
from nextwatch.evaluate.ranking.protocols import Protocol
from nextwatch.evaluate.ranking.replay import ScoreColumns

# Shape legend: U = users, E = exposures, R = resamples.

CUTOFFS = (1, 5)
NUM_RESAMPLES = 1_000
NUM_RESAMPLES_OF_PAIRS = 60  # of all exposures: each is a sort of its own

Figures = dict[str, float]
Draws = Float64[np.ndarray, "R U"]


@dataclass(frozen=True, slots=True)
class TestedExposures:
    """The tested exposures, in the order of time: users as codes from 0, days, and outcomes."""

    user: NDArray[np.int64]
    day: NDArray[np.str_]
    duration_s: NDArray[np.float64]
    outcomes: Outcomes

    def of_days(self, days: Sequence[str]) -> NDArray[np.bool_]:
        """Return which exposures are of *days*."""
        return np.isin(self.day, np.array(days, np.str_))

    def part(self, which: NDArray[np.bool_]) -> "TestedExposures":
        """Return the exposures *which*; users get codes of their own."""
        _, user = np.unique(self.user[which], return_inverse=True)
        outcomes = Outcomes(*(column[which] for column in self.outcomes))
        return TestedExposures(user, self.day[which], self.duration_s[which], outcomes)


def part_of(scores: ScoreColumns, which: NDArray[np.bool_]) -> ScoreColumns:
    """Return the scores of the exposures *which*."""
    return ScoreColumns(
        scores.p[which], scores.expected_watch_s[which], scores.median_watch_s[which]
    )


def order_within_users(
    sample: TestedExposures, scores: ScoreColumns, protocol: Protocol
) -> Iterator[tuple[str, UserMeans]]:
    """Yield the figures of order within users, each as what users add to it."""
    user, positive = sample.user, sample.outcomes.is_positive_B
    num_users = int(user.max(initial=-1)) + 1
    weight_U = np.bincount(
        user, positive if protocol.is_weighted_by_positives else None, minlength=num_users
    ).astype(np.float64)
    pairs = metrics.user_pairs(user, positive, scores.p)
    yield "gauc", metrics.gauc(pairs, weight_U)
    by_watch = metrics.user_pairs(user, positive, scores.expected_watch_s)
    yield "gauc_by_expected_watch", metrics.gauc(by_watch, weight_U)
    yield (
        "ndcg_at_5",
        metrics.ndcg_at(
            *(5, user, positive, scores.p),
            is_zero_without_positive=protocol.is_zero_without_positive,
        ),
    )
    for k in CUTOFFS:
        precision, recall = metrics.precision_and_recall_at(k, user, positive, scores.p)
        yield f"precision_at_{k}", precision
        yield f"recall_at_{k}", recall
    yield "rank_loss", metrics.rank_loss(pairs)
    watch_s = sample.outcomes.watch_s_B
    worth = metrics.user_pairs(user, positive, scores.expected_watch_s, watch_s)
    yield "weighted_per_user_loss", metrics.rank_loss(worth)


def of_single_exposures(
    sample: TestedExposures, scores: ScoreColumns
) -> Iterator[tuple[str, UserMeans]]:
    """Yield the figures that are means over exposures, each as what users add to it."""
    user, outcomes = sample.user, sample.outcomes
    losses = metrics.log_losses(outcomes.is_positive_B, scores.p)
    yield "log_loss", metrics.user_sums(user, losses)
    error_s = np.abs(scores.median_watch_s - outcomes.watch_s_B)
    yield "mae_s", metrics.user_sums(user, error_s)
    error_s = np.abs(scores.expected_watch_s - outcomes.watch_s_B)
    yield "mae_of_expected_s", metrics.user_sums(user, error_s)
    yield (
        "predicted_to_watched_total",
        metrics.user_sums(user, scores.expected_watch_s, outcomes.watch_s_B),
    )


def draws(num_users: int, *, seed: int = 0) -> Draws:
    """Return how often each user is drawn, resample by resample."""
    rng = np.random.default_rng(seed)
    return np.stack(
        [
            np.bincount(rng.integers(num_users, size=num_users), minlength=num_users)
            for _ in range(NUM_RESAMPLES)
        ]
    ).astype(np.float64)


def bounds(values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Return the bounds of the middle 95 % of *values*; nan where there are none."""
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return [float("nan"), float("nan")]
    low, high = np.percentile(known, [2.5, 97.5])
    return [float(low), float(high)]


def order_summary(
    sample: TestedExposures,
    by_seed: Sequence[ScoreColumns],
    protocol: Protocol,
    times_RU: Draws | None,
) -> tuple[Figures, dict[str, list[float]]]:
    """Return the figures of order within users, and their intervals if *times_RU* is given."""
    return _of_users(
        [dict(order_within_users(sample, scores, protocol)) for scores in by_seed], times_RU
    )


def exposure_summary(
    sample: TestedExposures, by_seed: Sequence[ScoreColumns], times_RU: Draws | None
) -> tuple[Figures, dict[str, list[float]]]:
    """Return AUC, XAUC and the means over exposures, and their intervals if *times_RU* is given."""
    found, intervals = _of_users(
        [dict(of_single_exposures(sample, scores)) for scores in by_seed], times_RU
    )
    positive, watch_s = sample.outcomes.is_positive_B, sample.outcomes.watch_s_B
    sorted_scores = [SortedScores(positive, scores.p) for scores in by_seed]
    found["auc"] = _mean(one.auc() for one in sorted_scores)
    found["xauc"] = _mean(metrics.xauc(watch_s, scores.median_watch_s) for scores in by_seed)
    found["xauc_of_expected"] = _mean(
        metrics.xauc(watch_s, scores.expected_watch_s) for scores in by_seed
    )
    if times_RU is not None:
        intervals["auc"] = bounds(
            [_mean(one.auc(times_U[sample.user]) for one in sorted_scores) for times_U in times_RU]
        )
        intervals["xauc"] = bounds(
            [
                _xauc_of_draw(times_U[sample.user], watch_s, by_seed[0].median_watch_s)
                for times_U in times_RU[:NUM_RESAMPLES_OF_PAIRS]
            ]
        )
    return found, intervals


def _xauc_of_draw(
    times_E: NDArray[np.float64], watch_s: NDArray[np.float64], predicted_s: NDArray[np.float64]
) -> float:
    times = times_E.astype(np.int64)
    return metrics.xauc(np.repeat(watch_s, times), np.repeat(predicted_s, times))


def _of_users(
    by_seed: Sequence[Mapping[str, UserMeans]], times_RU: Draws | None
) -> tuple[Figures, dict[str, list[float]]]:
    found = {name: _mean(one[name].mean for one in by_seed) for name in by_seed[0]}
    intervals = {}
    if times_RU is not None:
        for name in found:
            ratio_R = np.mean([_resampled(times_RU, one[name]) for one in by_seed], axis=0)
            intervals[name] = bounds(ratio_R)
    return found, intervals


def _resampled(times_RU: Draws, means: UserMeans) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio_R: NDArray[np.float64] = (times_RU @ means.sum_U) / (times_RU @ means.weight_U)
    return ratio_R


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def calibration(sample: TestedExposures, by_seed: Sequence[ScoreColumns]) -> dict[str, Any]:
    """Return predicted and observed by decile of probability, of watch time and of duration."""
    p = np.mean([scores.p for scores in by_seed], axis=0)
    watch_s = np.mean([scores.expected_watch_s for scores in by_seed], axis=0)
    positive = sample.outcomes.is_positive_B.astype(np.float64)
    observed_s = sample.outcomes.watch_s_B
    tables: Mapping[str, Callable[[], list[metrics.Bucket]]] = {
        "by_probability": lambda: metrics.calibration(p, p, positive),
        "by_expected_watch": lambda: metrics.calibration(watch_s, watch_s, observed_s),
        "by_duration": lambda: metrics.calibration(sample.duration_s, watch_s, observed_s),
    }
    return {
        name: [{**bucket._asdict(), "ratio": bucket.ratio} for bucket in table()]
        for name, table in tables.items()
    }
