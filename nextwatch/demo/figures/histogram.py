"""Count durations in buckets, so that memory does not grow with the run.

Whole milliseconds are kept below `EXACT_BELOW_MS`; above, buckets are 1 % wide and told by
their middle, so a percentile is off by half a percent at most.
"""

import math
from collections import Counter
from dataclasses import dataclass, field

EXACT_BELOW_MS = 1_000
_GROWTH = 1.01

Percentiles = dict[str, float | None]
"""``{"p50": ...}`` in milliseconds; None where nothing was measured."""


@dataclass(slots=True)
class Histogram:
    """How many durations fell into each bucket."""

    total: int = 0
    counts: Counter[int] = field(default_factory=Counter)

    def __len__(self) -> int:
        return self.total

    def add(self, duration_ms: float) -> None:
        """Count one duration; a negative one, from clocks that disagree, counts as 0."""
        self.counts[_bucket(max(0.0, duration_ms))] += 1
        self.total += 1

    def include(self, other: "Histogram") -> None:
        """Count all durations of *other*, too."""
        self.counts.update(other.counts)
        self.total += other.total

    def percentile(self, percent: float) -> float | None:
        """Return the smallest duration that at least *percent* of them do not exceed."""
        if not 0 < percent <= 100:  # noqa: PLR2004 - per cent
            raise ValueError(f"percent must be above 0 and at most 100, got {percent}")
        left = math.ceil(self.total * percent / 100)
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return _duration_ms(bucket)
        return None

    def percentiles(self, *percents: float) -> Percentiles:
        """Return the percentiles by name."""
        return {f"p{percent:g}": self.percentile(percent) for percent in percents}


def _bucket(duration_ms: float) -> int:
    if duration_ms < EXACT_BELOW_MS:
        return round(duration_ms)
    return EXACT_BELOW_MS + int(math.log(duration_ms / EXACT_BELOW_MS, _GROWTH))


def _duration_ms(bucket: int) -> float:
    if bucket < EXACT_BELOW_MS:
        return bucket
    return float(round(EXACT_BELOW_MS * _GROWTH ** (bucket - EXACT_BELOW_MS + 0.5), 1))
