"""Handle Ctrl-C and SIGTERM: the first one ends a run in order, the second one at once.

Before there is anything to tell, the first one ends it at once, too.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class Interruption:
    """The request to stop; while *is_orderly* the run checks *asked* itself."""

    asked: Event = field(default_factory=Event)
    is_orderly: bool = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Note the request, and raise if the run has to end at once.

        Raises:
            KeyboardInterrupt: the run has to end now.
        """
        is_first = not self.asked.is_set()
        self.asked.set()
        if is_first and self.is_orderly:
            return
        if not is_first:
            for number in _NUMBERS:
                signal.signal(number, signal.SIG_IGN)  # nothing may disturb the killing
        raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Yield an interruption that handles the signals of this process within the block."""
    interruption = Interruption()
    before = {number: signal.signal(number, interruption.on_signal) for number in _NUMBERS}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
