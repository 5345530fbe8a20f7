"""Read the machine's clock; all other modules take a `Clock`."""

import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], int]
"""Returns the current time in milliseconds since the Unix epoch."""


def system_clock() -> int:
    """Return the machine's wall-clock time in milliseconds since the Unix epoch."""
    return system_clock_ns() // 1_000_000


NanosecondClock = Callable[[], int]
"""Returns the current time in nanoseconds since the Unix epoch; for spans alone."""


def system_clock_ns() -> int:
    """Return the machine's wall-clock time in nanoseconds since the Unix epoch."""
    return time.time_ns()


@dataclass(slots=True)
class ManualClock:
    """A clock that moves only by `advance`."""

    now_ms: int = 0

    def __call__(self) -> int:
        """Return the time that the clock was last moved to."""
        return self.now_ms

    def advance(self, *, ms: int) -> None:
        """Move the clock forward by *ms*."""
        self.now_ms += ms
