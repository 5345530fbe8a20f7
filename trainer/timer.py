"""Measure intervals on a monotonic clock, since wall clocks jump."""

import time
from collections.abc import Callable


class Interval:
    """Is due once every *interval_s* seconds."""

    def __init__(self, interval_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._started_s = monotonic()

    def is_due(self) -> bool:
        """Return whether the time has come, and start anew if so."""
        if self._monotonic() - self._started_s < self._interval_s:
            return False
        self.restart()
        return True

    def restart(self) -> None:
        """Count from now."""
        self._started_s = self._monotonic()
