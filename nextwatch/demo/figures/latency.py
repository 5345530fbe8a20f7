"""Measure latencies over the whole run and over its newest seconds."""

from dataclasses import dataclass, field

from nextwatch.demo.figures.histogram import Histogram, Percentiles

RECENT_S = 10
COURSE_S = 60
KEPT_S = COURSE_S + 4  # the course begins at a multiple of its step


@dataclass(slots=True)
class Latencies:
    """Durations of the whole run, and of its newest `KEPT_S` seconds."""

    whole: Histogram = field(default_factory=Histogram)
    _seconds: dict[int, Histogram] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.whole)

    def add(self, duration_ms: float, *, ended_ms: int) -> None:
        """Count a duration that ended at *ended_ms*."""
        self.whole.add(duration_ms)
        second = ended_ms // 1000
        if second not in self._seconds:
            self._seconds[second] = Histogram()
            if len(self._seconds) > KEPT_S:
                del self._seconds[min(self._seconds)]
        self._seconds[second].add(duration_ms)

    def percentiles(self, *percents: float) -> Percentiles:
        """Return the percentiles of the whole run."""
        return self.whole.percentiles(*percents)

    def recent(self, *percents: float, now_ms: int, within_s: int = RECENT_S) -> Percentiles:
        """Return the percentiles of durations that ended in the newest *within_s* whole seconds."""
        return self._between(now_ms // 1000 - within_s, within_s).percentiles(*percents)

    def course(self, percent: float, *, now_ms: int, step_s: int = 2) -> list[float | None]:
        """Return the percentile of each *step_s* seconds of the last minute, oldest first."""
        end = now_ms // 1000 // step_s * step_s
        return [
            self._between(first, step_s).percentile(percent)
            for first in range(end - COURSE_S, end, step_s)
        ]

    def _between(self, first: int, num_seconds: int) -> Histogram:
        found = Histogram()
        for second in range(first, first + num_seconds):
            if second in self._seconds:
                found.include(self._seconds[second])
        return found
