"""Detect that the process was paused, and stop it from writing to partitions it may have lost.

At-least-once delivery has no fencing of its own, so a process that wakes from a long pause
(SIGSTOP, a frozen machine) would overwrite newer windows in the changelog. It finds out by
its own pulse, before it produces anything.
"""

from collections.abc import Callable

from contract.errors import WorkerPausedError


class PauseGuard:
    """Measures how long ago the event loop ran: the loop calls `beat`, writers call `check`."""

    def __init__(self, monotonic: Callable[[], float], *, limit_s: float) -> None:
        self._monotonic = monotonic
        self._limit_s = limit_s
        self._beaten_at: float | None = None

    def beat(self) -> None:
        """Note that the process is alive, unless it already was silent for too long.

        Raises:
            WorkerPausedError: as `check`.
        """
        self.check()
        self._beaten_at = self._monotonic()

    @property
    def silent_s(self) -> float:
        """How long ago the event loop ran; 0 before its first beat."""
        return 0.0 if self._beaten_at is None else self._monotonic() - self._beaten_at

    def check(self) -> None:
        """Raise after a pause longer than the limit, counted from the first beat.

        Raises:
            WorkerPausedError: with the length of the silence.
        """
        if (silent_s := self.silent_s) > self._limit_s:
            raise WorkerPausedError(
                f"stood still for {silent_s:.1f} s, at most {self._limit_s:.1f} s are safe"
            )
