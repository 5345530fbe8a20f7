"""How long things took: the newest of them, and their percentiles."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

MOST_KEPT = 100_000


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """Return the smallest of *ordered* that at least *percent* of them do not exceed.

    That is the nearest-rank definition: the answer is always one that was measured. None when
    nothing was.
    """
    if not 0 < percent <= 100:  # noqa: PLR2004 - per cent
        raise ValueError(f"percent must be above 0 and at most 100, got {percent}")
    if not ordered:
        return None
    rank = math.ceil(len(ordered) * percent / 100)
    return ordered[rank - 1]


@dataclass(slots=True)
class Latencies:
    """Durations in milliseconds, of which the newest `MOST_KEPT` are kept."""

    _newest_ms: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_KEPT))

    def add(self, latency_ms: float) -> None:
        """Keep one more; clocks that disagree by a little make no negative durations."""
        self._newest_ms.append(max(0.0, latency_ms))

    def __len__(self) -> int:
        return len(self._newest_ms)

    def percentiles(self, *percents: float, last: int | None = None) -> dict[str, float | None]:
        """Return ``{"p50": ...}`` in milliseconds, over the newest *last* or all that are kept."""
        kept = list(self._newest_ms)
        ordered = sorted(kept[-last:] if last else kept)
        return {f"p{percent:g}": percentile(ordered, percent) for percent in percents}
