"""Lock files for as long as a process lives: the kernel releases a lock when its process ends."""

import fcntl
import os
from pathlib import Path
from typing import IO


def hold(path: Path) -> IO[bytes] | None:
    """Return *path* opened and locked until it is closed; None if another process holds it."""
    while True:
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        if _is_still(path, file):
            return file
        file.close()  # its holder removed it between our two calls


def is_held(path: Path) -> bool:
    """Return whether a living process holds *path*."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _is_still(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
