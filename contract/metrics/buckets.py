"""Count observations in buckets, for histograms.

A thread that observes costs a bisection and three additions; prometheus_client's own histograms
take a lock and walk through the buckets for each observation. Each `BucketCounts` is written by
one thread; any thread may take a snapshot, which at worst lacks the observation being added.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class HistogramCounts(NamedTuple):
    """How many observations each bucket has, the last one without a bound, and their sum."""

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


class BucketCounts:
    """Observations by bucket; a bucket has what is at most its bound."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Add one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def observe_all(self, values: Iterable[float]) -> None:
        """Add each of *values*."""
        bounds, counts = self._bounds, self._counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            self._total += value

    def snapshot(self) -> HistogramCounts:
        """Return the counts as they are now."""
        return HistogramCounts(self._bounds, tuple(self._counts), self._total)
