"""Reject writes before the disk is full, since the engine does not survive a full disk.

It writes through mapped files, and a page that the disk has no room for ends the process with
SIGBUS, which nobody can catch. So the space is looked at before every write: 507 then, and
searches go on. Deleting a collection is always allowed. It is also looked at before a collection
is opened, since the engine then writes to its mapped files.
"""

import shutil
from pathlib import Path

from contract.errors import StorageFull
from nextwatch.embedded.index.index_wire import Refused

INSUFFICIENT_STORAGE = 507
WRITE_BYTES = 16 << 20
"""Free space that a write needs; more than it takes, since others write to the disk as well."""
COLLECTION_BYTES = 48 << 20
"""Free space that a new collection needs. Measured on tmpfs: 34 MB once it is opened again, 32 of
them for its vectors; on ext4 what is written to it."""
_BLOCK_BYTES = 512  # the unit of `st_blocks`, whatever the file system's own is


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


def check_room_to_open(collection: Path) -> None:
    """Check that the disk has room for what the engine writes when it opens *collection*.

    Its mapped files are sparse, and tmpfs fills that of the vectors when it is mapped again: 32 MB
    of a small collection. Other file systems need some pages; they are held to the same bound.

    Raises:
        StorageFull: it has not.
    """
    stats = [path.stat() for path in collection.glob("segments/**/*") if path.is_file()]
    sparse_bytes = sum(max(0, stat.st_size - stat.st_blocks * _BLOCK_BYTES) for stat in stats)
    needed_bytes = min(sparse_bytes, COLLECTION_BYTES)
    free_bytes = shutil.disk_usage(collection).free
    if free_bytes < needed_bytes:
        raise StorageFull(
            f"{collection}: No space left on device: {free_bytes >> 20} MB free, "
            f"{needed_bytes >> 20} MB needed to open it: make room there and start again"
        )
