"""A process is ready while its file is there: supervisors and health checks look for it.

Each start withdraws it first, since a process that was killed has left it behind.
"""

import os
from pathlib import Path


def withdraw(ready_file: Path | None) -> None:
    """Say that this process does not do its work yet."""
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)


def declare(ready_file: Path | None) -> None:
    """Say that this process does its work."""
    if ready_file is not None:
        ready_file.parent.mkdir(parents=True, exist_ok=True)
        ready_file.write_text(f"{os.getpid()}\n")
