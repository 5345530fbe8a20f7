"""Schedule events: evenly, or as in the log times a speed.

A pace is told the time of a monotonic clock and keeps no clock of its own. After a stall it
catches up on `max_catch_up_s` worth of events at once, never on more: a source that floods
a broker which has just come back measures the flood, not the system.
"""

import math
from typing import Protocol

MAX_CATCH_UP_S = 0.5


class Pace(Protocol):
    """Computes when an event is due, in seconds on the caller's monotonic clock."""

    def due_s(self, event_time_ms: int = 0, *, rides_along: bool = False, now_s: float) -> float:
        """Return when the event of *event_time_ms* is due; a past time means at once.

        What *rides_along* (an impression, an upload) does not count as an event of a rate.
        """
        ...


class EvenPace:
    """Spaces events evenly, whatever their times."""

    def __init__(self, per_s: float, *, max_catch_up_s: float = MAX_CATCH_UP_S) -> None:
        if not 0 < per_s < math.inf:
            raise ValueError(f"a rate must be above 0 per second, got {per_s}")
        self.period_s = 1 / per_s
        self.max_catch_up_s = max_catch_up_s
        self._next_s: float | None = None

    def due_s(self, event_time_ms: int = 0, *, rides_along: bool = False, now_s: float) -> float:
        """Return the next slot and take it; what rides along is due at once and takes none."""
        del event_time_ms
        if rides_along:
            return now_s
        planned_s = now_s if self._next_s is None else self._next_s
        due_s = max(planned_s, now_s - self.max_catch_up_s)
        self._next_s = due_s + self.period_s
        return due_s


class LogPace:
    """Spaces events as their times are, divided by *speed*."""

    def __init__(self, speed: float, *, max_catch_up_s: float = MAX_CATCH_UP_S) -> None:
        if not 0 < speed < math.inf:
            raise ValueError(f"a speed must be above 0, got {speed}")
        self.speed = speed
        self.max_catch_up_s = max_catch_up_s
        self._origin_s: float | None = None
        self._origin_ms = 0

    def due_s(self, event_time_ms: int = 0, *, rides_along: bool = False, now_s: float) -> float:
        """Return when *event_time_ms* is reached; after a stall the rest of the log shifts."""
        del rides_along
        if self._origin_s is None:
            self._origin_s, self._origin_ms = now_s, event_time_ms
        due_s = self._origin_s + (event_time_ms - self._origin_ms) / 1000 / self.speed
        late_s = now_s - self.max_catch_up_s - due_s
        if late_s > 0:
            self._origin_s += late_s
            due_s += late_s
        return due_s


class NoPace:
    """Never sends an event: a rate of 0."""

    def due_s(self, event_time_ms: int = 0, *, rides_along: bool = False, now_s: float) -> float:
        """Return a time that does not come."""
        del event_time_ms, rides_along, now_s
        return math.inf


def even_pace(per_s: float) -> Pace:
    """Return the pace of *per_s* events per second, of which 0 are none."""
    return EvenPace(per_s) if per_s else NoPace()
