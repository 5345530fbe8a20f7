"""Store the windows of one partition, with the offsets they reflect and the erasure markers.

One write holds everything that it is given, or nothing. Offsets are written once what lies before
them is folded and acknowledged, so after a crash the store is read on from there. An erasure marker
is what stays of an erased user: under a hash of the user id, the time up to which events are
ignored.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import rocksdict
import structlog

from contract.errors import ContractError, NextwatchError, StorageFull, StoreError, WindowError
from contract.process.clock import Clock, system_clock
from contract.process.exit_codes import is_storage_full
from contract.process.rocksdb import RocksMemory, options_within

_WINDOW = b"w:"
_OFFSET = b"o:"
_MARKER = b"s:"
_NO_MARKERS: Mapping[bytes, int] = {}
_DAMAGE = ("Corruption", "No such file or directory")
"""How RocksDB begins to tell, or tells, that its files are not those it wrote."""

DAMAGED = "damaged"
"""A file beside the database of a store that was found damaged while it was read."""

log = structlog.get_logger()

USED_AT_MS = "used-at-ms"
"""The name beside the offsets under which a store keeps when it was last written to."""


class WindowStore(Protocol):
    """Windows by user, and named offsets, of one partition."""

    def get(self, user_ids: Sequence[str]) -> list[bytes | None]:
        """Return the record of each user, None for users never seen."""
        ...

    def write(
        self,
        windows: Mapping[str, bytes | None],
        offsets: Mapping[str, int],
        markers: Mapping[bytes, int] = _NO_MARKERS,
    ) -> None:
        """Put *windows*, *offsets* and *markers* in one atomic write; None deletes a window."""
        ...

    def offset(self, name: str) -> int | None:
        """Return the offset last written under *name*."""
        ...

    def markers(self) -> dict[bytes, int]:
        """Return every erasure marker, with the time up to which its user is erased."""
        ...

    def scan(self, start: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield every user from *start* on and the record, ordered by user."""
        ...

    def close(self) -> None:
        """Close for good."""
        ...


class RocksStore:
    """A store in one directory of its own, surviving the process through RocksDB's log.

    Whatever reads it raises `StoreError` for damaged files, and leaves a mark that has `open_store`
    discard it: RocksDB checks a block when it is read, which may be long after the opening.
    """

    def __init__(self, directory: Path, memory: RocksMemory, clock: Clock = system_clock) -> None:
        """Open the store in *directory*, or make one there.

        Raises:
            StoreError: its files are damaged.
            StorageFull: there is no room to open it.
            ContractError: it cannot be opened, and its files may be good.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._memory = memory
        self._clock = clock
        try:
            self._db: Any = self._opened()
        except Exception as error:  # rocksdict raises nothing narrower
            raise self._failure(error, "opened") from error

    def get(self, user_ids: Sequence[str]) -> list[bytes | None]:
        """Return the record of each user, None for users never seen."""
        try:
            found = self._db.get([_WINDOW + user_id.encode() for user_id in user_ids])
        except Exception as error:
            raise self._failure(error, "read") from error
        return list(found)

    def write(
        self,
        windows: Mapping[str, bytes | None],
        offsets: Mapping[str, int],
        markers: Mapping[bytes, int] = _NO_MARKERS,
    ) -> None:
        """Put *windows*, *offsets*, *markers* and the time in one RocksDB write batch."""
        offsets = {**offsets, USED_AT_MS: self._clock()}
        batch = rocksdict.WriteBatch(raw_mode=True)
        for user_id, record in windows.items():
            key = _WINDOW + user_id.encode()
            if record is None:
                batch.delete(key)
            else:
                batch.put(key, record)
        for name, offset in offsets.items():
            batch.put(_OFFSET + name.encode(), offset.to_bytes(8, "big"))
        for marker, erased_before_ms in markers.items():
            batch.put(_MARKER + marker, erased_before_ms.to_bytes(8, "big"))
        self._db.write(batch)

    def offset(self, name: str) -> int | None:
        """Return the offset last written under *name*."""
        try:
            stored = self._db.get(_OFFSET + name.encode())
        except Exception as error:
            raise self._failure(error, "read") from error
        return None if stored is None else int.from_bytes(stored, "big")

    def markers(self) -> dict[bytes, int]:
        """Return every erasure marker, with the time up to which its user is erased."""
        return {
            marker: int.from_bytes(erased_before_ms, "big")
            for marker, erased_before_ms in self._under(_MARKER)
        }

    def scan(self, start: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield every user from *start* on and the record, ordered by user."""
        for user_id, record in self._under(_WINDOW, start.encode()):
            yield user_id.decode(), record

    def compact(self) -> None:
        """Rewrite the files, so that nothing deleted or replaced is left in them.

        It opens the database anew: the manifest names the first and last key of every file
        there ever was, until the next opening writes another.
        """
        self._db.flush()
        how = rocksdict.CompactOptions()
        # else a lone file is moved down as it is, with the keys of its deletions
        how.set_bottommost_level_compaction(rocksdict.BottommostLevelCompaction.force())
        self._db.compact_range(None, None, how)
        self._db.close()
        self._db = self._opened()

    def close(self) -> None:
        """Flush and close."""
        self._db.flush()
        self._db.close()

    def _opened(self) -> Any:
        return rocksdict.Rdict(str(self._directory / "db"), options_within(self._memory))

    def _under(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield what lies under *prefix*; an iterator of RocksDB ends at damage as at its end."""
        iterator = self._db.iter()
        iterator.seek(prefix + start)
        while iterator.valid():
            key = iterator.key()
            if not key.startswith(prefix):
                return
            yield key.removeprefix(prefix), iterator.value()
            iterator.next()
        try:
            iterator.status()
        except Exception as error:
            raise self._failure(error, "read") from error

    def _failure(self, error: Exception, what: str) -> NextwatchError:
        """Return *error* as one of ours, and mark the store if it is damaged."""
        text = f"the store {self._directory} cannot be {what}: {error}"
        if is_storage_full(error):
            return StorageFull(f"{text}: make room there and start again")
        if not any(word in str(error) for word in _DAMAGE):
            return ContractError(f"{text}: mend that and start again; nothing in it is lost")
        (self._directory / DAMAGED).touch()
        return StoreError(f"{text}: it is rebuilt from the changelog at the next start")


def open_store(
    directory: Path, memory: RocksMemory, *, clock: Clock, max_idle_ms: int
) -> RocksStore:
    """Return the store in *directory*, however the last process ended that had it open.

    One whose files are damaged, or were found so by the last process, is discarded: the changelog
    has what it held. So is one that was not written to for *max_idle_ms*: it may hold users whose
    tombstones the changelog has no more.

    Raises:
        StorageFull: there is no room to open it.
        ContractError: it cannot be opened, and its files may be good.
    """
    try:
        if (directory / DAMAGED).exists():
            raise StoreError(f"the store {directory} was found damaged while it was read")  # noqa: TRY301
        store = RocksStore(directory, memory, clock)
        now_ms = clock()
        idle_ms = now_ms - (store.offset(USED_AT_MS) or now_ms)
    except StoreError as error:
        log.warning("store_discarded", directory=str(directory), reason=str(error))
    else:
        if idle_ms <= max_idle_ms:
            return store
        log.warning("store_discarded", directory=str(directory), idle_ms=idle_ms)
        store.close()
    shutil.rmtree(directory, ignore_errors=True)
    return RocksStore(directory, memory, clock)


def stores_in(state_dir: Path, num_partitions: int) -> list[int]:
    """Return the partitions that have a store in *state_dir*."""
    return [number for number in range(num_partitions) if (state_dir / str(number)).is_dir()]


def peek(directory: Path, user_id: str) -> bytes | None:
    """Return the record of *user_id* in the store in *directory*, which a worker may have open.

    Raises:
        WindowError: the store is damaged, or its files changed under the reader's hands.
    """
    options = rocksdict.Options(raw_mode=True)
    read_only = rocksdict.AccessType.read_only()
    try:
        database: Any = rocksdict.Rdict(str(directory / "db"), options, access_type=read_only)
        record: bytes | None = database.get(_WINDOW + user_id.encode())
        database.close()
    except Exception as error:  # rocksdict raises nothing narrower
        raise WindowError(f"the store {directory} cannot be read just now: {error}") from error
    return record
