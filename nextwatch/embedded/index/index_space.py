"""Reject writes before the disk is full, since the engine does not survive a full disk.

It writes through mapped files, and a page that the disk has no room for ends the process with
SIGBUS, which nobody can catch. So the space is looked at before every write: 507 then, and
searches go on. Deleting a collection is always allowed.
"""

import shutil
from pathlib import Path

import structlog

from nextwatch.embedded.index.index_wire import Refused

log = structlog.get_logger()

INSUFFICIENT_STORAGE = 507
WRITE_BYTES = 16 << 20
"""Free space that a write needs; more than it takes, since others write to the disk as well."""
COLLECTION_BYTES = 48 << 20
"""Free space that a new collection needs. Measured: 34 MB, most of it for the write-ahead log."""


def check_space(directory: Path, needed_bytes: int) -> None:
    """Check that the disk of *directory* has room.

    Raises:
        Refused: it has not.
    """
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes:
        free, needed = free_bytes >> 20, needed_bytes >> 20
        raise Refused(
            INSUFFICIENT_STORAGE,
            f"No space left on device: {free} MB free under {directory}, {needed} MB needed",
        )


def warn_of_full_disk(directory: Path) -> None:
    """Log a warning if the disk is full; even opening collections may need space."""
    try:
        check_space(directory, WRITE_BYTES)
    except Refused as refused:
        log.warning("disk_full", reason=refused.message)
