"""Where one run of the embedded stack keeps its files.

Offsets, windows and vectors belong to the broker they came from. A directory whose broker
keeps its records is therefore used on as a whole, and any other one is emptied first.
"""

import fcntl
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from contract.errors import StackError

_MARK = ".nextwatch-stack"
_STATE = ("broker", "bundles", "index", "streams", "trainer")
_PARTS = (*_STATE, "logs", "ready")


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A claimed directory; nobody else claims it before `release`."""

    path: Path
    is_temporary: bool
    _mark: IO[bytes]

    def part(self, name: str) -> Path:
        """Return the folder *name* of this run, which exists."""
        assert name in _PARTS, name
        return self.path / name

    def release(self, *, is_kept: bool = False) -> None:
        """Give it back; a temporary one is removed unless it *is_kept*."""
        if self.is_temporary and not is_kept:
            shutil.rmtree(self.path, ignore_errors=True)
        self._mark.close()


def claim(path: Path | None, *, is_durable: bool = False) -> RunDirectory:
    """Return *path*, or a new temporary directory.

    It is emptied of what earlier runs left, but for the state of a broker that *is durable*.

    Raises:
        StackError: another stack runs in it, or it holds files that are not ours.
    """
    is_temporary = path is None
    root = Path(tempfile.mkdtemp(prefix="nextwatch-")) if path is None else path.resolve()
    root.mkdir(parents=True, exist_ok=True)
    if not (root / _MARK).exists() and any(root.iterdir()):
        raise StackError(f"{root} holds files of somebody else: name an empty directory")
    mark = (root / _MARK).open("wb")
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        mark.close()
        raise StackError(f"another stack runs in {root}: stop it, or name another") from error
    has_records = is_durable and any((root / "broker").glob("*"))
    for name in _PARTS:
        if name not in _STATE or not has_records:
            shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(mode=0o700, exist_ok=True)
    return RunDirectory(root, is_temporary, mark)
