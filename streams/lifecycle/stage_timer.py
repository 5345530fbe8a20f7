"""Measure processor and wall time of each stage, summed over all batches.

Logged once, at the end of the process. Costs about a microsecond a step, so it is always on.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StageTimer:
    """Sums up the time between entering and leaving each named stage, by any thread."""

    def __init__(self, thread_time: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._thread_time = thread_time
        self._monotonic = monotonic
        self._cpu_s: dict[str, float] = defaultdict(float)
        self._wall_s: dict[str, float] = defaultdict(float)
        self._counts: Counter[str] = Counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of the block to *stage*; a stage belongs to one thread."""
        cpu_s, wall_s = self._thread_time(), self._monotonic()
        try:
            yield
        finally:
            self._cpu_s[stage] += self._thread_time() - cpu_s
            self._wall_s[stage] += self._monotonic() - wall_s

    def count(self, **amounts: int) -> None:
        """Add to the counts that the times are to be divided by; each is one thread's."""
        self._counts.update(amounts)

    def totals(self) -> dict[str, float]:
        """Return ``<stage>_ms`` of processor time, ``<stage>_wall_ms``, and the counts."""
        cpu = {f"{stage}_ms": round(spent * 1_000, 1) for stage, spent in self._cpu_s.items()}
        wall = {f"{s}_wall_ms": round(spent * 1_000, 1) for s, spent in self._wall_s.items()}
        return {**cpu, **wall, **self._counts}
