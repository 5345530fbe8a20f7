"""Count a run minute by minute, so that a change over time is visible.

One rule: a latency belongs to the minute in which its event was sent, however late the answer
came. Minutes are closed, and shrink to their figures, once `NUM_OPEN` newer ones exist.
"""

from collections import deque
from dataclasses import dataclass, field

import msgspec

from nextwatch.demo.figures.histogram import Histogram

NUM_OPEN = 10
MOST_MINUTES = 10_080  # a week; what comes later is not told by minute
_MINUTE_MS = 60_000


class Minute(msgspec.Struct, kw_only=True):
    """The figures of one minute; latencies are milliseconds, null where nothing was answered."""

    minute: int
    events: int = 0
    answered: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(slots=True)
class Minutes:
    """All minutes since the first event."""

    _started_ms: int | None = None
    _all: list[Minute] = field(default_factory=list)
    _open: deque[Histogram] = field(default_factory=deque)

    def sent(self, sent_ms: int) -> None:
        """Count an event that was sent at *sent_ms*."""
        if (minute := self._at(sent_ms)) is not None:
            minute.events += 1

    def answered(self, sent_ms: int, latency_ms: float) -> None:
        """Count the answer to an event that was sent at *sent_ms*."""
        if (minute := self._at(sent_ms)) is None:
            return
        minute.answered += 1
        place = minute.minute - 1 - self._num_closed
        if place >= 0:  # too late for the percentiles of a minute that is closed
            self._open[place].add(latency_ms)

    def figures(self) -> list[Minute]:
        """Return the present figures of all minutes, oldest first."""
        for place, latencies in enumerate(self._open):
            _fill(self._all[self._num_closed + place], latencies)
        return [msgspec.structs.replace(minute) for minute in self._all]

    @property
    def _num_closed(self) -> int:
        return len(self._all) - len(self._open)

    def _at(self, sent_ms: int) -> Minute | None:
        if self._started_ms is None:
            self._started_ms = sent_ms
        place = max(0, (sent_ms - self._started_ms) // _MINUTE_MS)
        if place >= MOST_MINUTES:
            return None
        while len(self._all) <= place:
            self._begin_next()
        return self._all[place]

    def _begin_next(self) -> None:
        if len(self._open) == NUM_OPEN:
            _fill(self._all[self._num_closed], self._open.popleft())
        self._all.append(Minute(minute=len(self._all) + 1))
        self._open.append(Histogram())


def _fill(minute: Minute, latencies: Histogram) -> None:
    for name, value in latencies.percentiles(50, 95, 99).items():
        setattr(minute, name, value)
