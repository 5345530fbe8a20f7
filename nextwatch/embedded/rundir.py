"""Claim the directory of one run of the embedded stack, and clean up after killed runs.

Offsets, windows and vectors belong to the broker they came from. A directory whose broker
keeps its records is therefore used on as a whole, and any other one is emptied first.

Whoever owns a directory holds the lock of a file in it as long as it lives. A temporary directory
without a living owner is left over from a run that was killed, and the next run removes it.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from contract.errors import ContractError, StackError
from contract.process import lock
from contract.process.clock import Clock, system_clock

KEPT_FOR_MS = 7 * 24 * 3_600_000
"""How long the logs of a failed run stay in the temporary directory."""

_PREFIX = "nextwatch-"
_MARK = ".nextwatch-stack"
_KEPT = b"kept\n"
_STATE = ("broker", "bundles", "index", "streams", "trainer")
_PARTS = (*_STATE, "logs", "ready")


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A claimed directory; no other process can claim it before `release`."""

    path: Path
    is_temporary: bool
    _mark: IO[bytes]

    def part(self, name: str) -> Path:
        """Return the folder *name* of this run, which exists."""
        assert name in _PARTS, name
        return self.path / name

    def release(self, *, is_kept: bool = False, with_state: bool = False) -> None:
        """Release the directory; a temporary one is removed, or all but its logs if it *is_kept*.

        What else there is in a kept one stays *with_state* only.
        """
        if self._mark.closed:
            return
        if self.is_temporary and is_kept:
            self._mark.write(_KEPT)
            self._mark.flush()
            if not with_state:
                self._remove_state()
        elif self.is_temporary:
            shutil.rmtree(self.path, ignore_errors=True)
        self._mark.close()

    def _remove_state(self) -> None:
        for entry in self.path.iterdir():
            if entry.is_dir() and entry.name != "logs":
                shutil.rmtree(entry, ignore_errors=True)


def claim(
    path: Path | None, *, is_durable: bool = False, clock: Clock = system_clock
) -> RunDirectory:
    """Return *path*, or a new temporary directory.

    It is emptied of what earlier runs left, but for the state of a broker that *is durable*.

    Raises:
        ContractError: it cannot be made.
        StackError: another stack runs in it, it holds files that are not ours, or the topics of a
            broker when this one is not durable.
    """
    sweep(Path(tempfile.gettempdir()), now_ms=clock())
    if path is None:
        root, mark = _new_temporary()
    else:
        root = path.resolve()
        mark = _claim_named(root)
    has_records = any((root / "broker").glob("*"))
    if has_records and not is_durable:
        mark.close()
        raise StackError(
            f"{root} holds the topics of a Kafka, which another broker would not use: "
            "name another directory, or start Kafka (--broker kafka)"
        )
    for name in _PARTS:
        if name not in _STATE or not has_records:
            shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(mode=0o700, exist_ok=True)
    return RunDirectory(root, path is None, mark)


def sweep(folder: Path, *, now_ms: int) -> list[Path]:
    """Remove the directories of dead runs from *folder*, and return them.

    The logs of failed runs stay for `KEPT_FOR_MS`. Directories of other users are left alone.
    """
    removed = []
    for root in folder.glob(f"{_PREFIX}*"):
        mark = _mark_of_stale(root, now_ms)
        if mark is not None:
            shutil.rmtree(root, ignore_errors=True)
            mark.close()
            removed.append(root)
    return removed


def _mark_of_stale(root: Path, now_ms: int) -> IO[bytes] | None:
    """Return the locked mark of *root* if nobody owns it and nobody wants its logs any more."""
    path = root / _MARK
    try:
        if root.is_symlink() or root.stat().st_uid != os.getuid() or not path.is_file():
            return None
        age_ms = now_ms - path.stat().st_mtime * 1000
        if path.read_bytes() == _KEPT and age_ms < KEPT_FOR_MS:
            return None
        return lock.hold(path)
    except OSError:
        return None  # its owner is removing it


def _new_temporary() -> tuple[Path, IO[bytes]]:
    """Return a new directory, locked before it has a name by which `sweep` looks for it."""
    draft = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}")).resolve()
    mark = lock.hold(draft / _MARK)
    assert mark is not None
    return draft.rename(draft.with_name(draft.name.removeprefix("."))), mark


def _claim_named(root: Path) -> IO[bytes]:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ContractError(f"{root}: {error.strerror}: name another directory") from error
    if not (root / _MARK).exists() and any(root.iterdir()):
        raise StackError(f"{root} holds files of somebody else: name an empty directory")
    mark = lock.hold(root / _MARK)
    if mark is None:
        raise StackError(f"another stack runs in {root}: stop it, or name another")
    return mark
