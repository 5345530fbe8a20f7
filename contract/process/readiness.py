"""Mark a process as ready by a file, which supervisors and health checks look for.

Each start withdraws it first, since a process that was killed has left it behind.
"""

import os
from pathlib import Path
from threading import Lock


def withdraw(ready_file: Path | None) -> None:
    """Remove the ready file."""
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)


def declare(ready_file: Path | None) -> None:
    """Write the ready file."""
    if ready_file is not None:
        ready_file.parent.mkdir(parents=True, exist_ok=True)
        ready_file.write_text(f"{os.getpid()}\n")


class ReadyFile:
    """The ready file of a process, which exists while it works and the cluster fits.

    The thread that works declares it, and the one that watches the cluster notes reasons.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._is_declared = False
        self._reason = ""
        self._lock = Lock()

    def declare(self) -> None:
        """Write the ready file."""
        with self._lock:
            self._is_declared = True
            self._show()

    def note(self, reason: str) -> None:
        """Withdraw readiness while there is a *reason*; an empty one restores it."""
        with self._lock:
            self._reason = reason
            self._show()

    def _show(self) -> None:
        if self._is_declared and not self._reason:
            declare(self._path)
        else:
            withdraw(self._path)
