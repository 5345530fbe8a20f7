"""Measure intervals on a monotonic clock, since wall clocks jump."""

import time
from collections.abc import Callable


def since(started_s: float) -> float:
    """Return how long ago *started_s* of the monotonic clock was, in seconds."""
    return round(time.monotonic() - started_s, 3)


class Interval:
    """A timer that is due once every *interval_s* seconds."""

    def __init__(self, interval_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._started_s = monotonic()

    def is_due(self) -> bool:
        """Return whether the interval is over, and restart it if so."""
        if self._monotonic() - self._started_s < self._interval_s:
            return False
        self.restart()
        return True

    def restart(self) -> None:
        """Restart the interval now."""
        self._started_s = self._monotonic()
