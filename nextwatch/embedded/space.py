"""Check the free disk space of a stack before it starts and while it runs.

A full disk stops no process at once: the index refuses writes with 507, its clients wait, and only
their logs say why. So the stack looks at the disk itself, and tells it.
"""

import shutil
import tempfile
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from contract.errors import StorageFull
from nextwatch.embedded.index.index_space import COLLECTION_BYTES, WRITE_BYTES, check_space
from nextwatch.embedded.index.index_wire import Refused

log = structlog.get_logger(__name__)

_START_BYTES = {
    "broker": 16 << 20,
    "index": 2 * COLLECTION_BYTES,
    "streams": 8 << 20,
    "trainer": 64 << 20,
}
"""What each process writes up to the first generation, with some room: docs/experiments.md, "Disk
space of a first start"."""


def check_room(state_dir: Path | None, names: Collection[str]) -> None:
    """Check that the processes *names* can start in *state_dir*, or in the temporary directory.

    Where an index is kept already, only the next collection needs room.

    Raises:
        StorageFull: the disk has no room for them.
    """
    place = (state_dir or Path(tempfile.gettempdir())).resolve()
    needed = sum(_START_BYTES.get(name, 0) for name in names)
    if state_dir is not None and any((place / "index").glob("*")):
        needed = _least_bytes(names)
    free = _free_bytes(place)
    if free < needed:
        raise StorageFull(
            f"{place}: No space left on device: {free >> 20} MB free, {needed >> 20} MB needed to "
            "start: make room there, or name another directory by --state-dir"
        )


def shortage(directory: Path, names: Collection[str]) -> str:
    """Return why *directory* has no room for the processes *names*; empty if it has."""
    try:
        check_space(directory, _least_bytes(names))
    except Refused as refused:
        is_index = "index" in names
        return f"{'the index takes no new generation (507): ' if is_index else ''}{refused.message}"
    return ""


@dataclass(slots=True)
class SpaceWatch:
    """Warns once each time that the disk of *directory* has no room left for *names*."""

    directory: Path
    names: Collection[str]
    _is_short: bool = False

    def look(self) -> None:
        """Check the disk; cheap enough to be called ten times a second."""
        reason = shortage(self.directory, self.names)
        if reason and not self._is_short:
            log.warning("disk_full", reason=reason)
        self._is_short = bool(reason)


def _least_bytes(names: Collection[str]) -> int:
    return COLLECTION_BYTES if "index" in names else WRITE_BYTES


def _free_bytes(place: Path) -> int:
    """Return the free space of the disk that *place*, which need not exist, is on."""
    for folder in (place, *place.parents):
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    raise AssertionError("the root of a file system exists")
