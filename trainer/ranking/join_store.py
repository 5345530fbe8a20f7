"""Keep the entries of the joiner in order of their keys, in memory or in RocksDB.

The working copy is made anew at each start, from the checkpoint that the trainer goes on from: what
was written after that checkpoint happens again. So it needs no log of its own, and a process that
is killed loses nothing. A checkpoint of RocksDB is hard links to files that never change.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
import rocksdict
import structlog

from contract.errors import ContractError, NextwatchError, StorageFull, StoreError
from contract.process import lock
from contract.process.exit_codes import is_storage_full
from contract.process.rocksdb import RocksMemory, options_within

log = structlog.get_logger()

DAMAGED_SUFFIX = ".damaged"
"""A file beside the working copy: it was found damaged, so the next start begins with none."""
LOCK_SUFFIX = ".lock"
"""A file beside the working copy that the process locks which has it."""
_MEMORY_MIB = 32
_IMMUTABLE = ".sst"
_DICT_FILE = "entries.msgpack"


class JoinStore(Protocol):
    """Bytes by bytes, ordered by key."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the value of each key, None where there is none."""
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value of *key*."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove *key*, if it is there."""
        ...

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Remove the keys from *start* on and below *end*."""
        ...

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield what lies from *start* on and below *end*, in order."""
        ...

    def purge(self, prefixes: Sequence[bytes]) -> None:
        """Leave no byte on disk of what was deleted under *prefixes*."""
        ...

    def save(self, directory: Path) -> None:
        """Write everything into *directory*, which does not exist yet."""
        ...

    def load(self, directory: Path | None) -> None:
        """Replace everything by what `save` wrote into *directory*; by nothing without one."""
        ...

    def close(self) -> None:
        """Close for good."""
        ...


class DictJoinStore:
    """A store in memory, for tests and evaluations."""

    def __init__(self) -> None:
        self._entries: dict[bytes, bytes] = {}

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the value of each key, None where there is none."""
        return [self._entries.get(key) for key in keys]

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value of *key*."""
        self._entries[key] = value

    def delete(self, key: bytes) -> None:
        """Remove *key*, if it is there."""
        self._entries.pop(key, None)

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Remove the keys from *start* on and below *end*."""
        for key in [key for key in self._entries if start <= key < end]:
            del self._entries[key]

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield what lies from *start* on and below *end*, in order."""
        yield from sorted(item for item in self._entries.items() if start <= item[0] < end)

    def purge(self, prefixes: Sequence[bytes]) -> None:
        """Do nothing: nothing is on disk."""

    def save(self, directory: Path) -> None:
        """Write everything into *directory*, which does not exist yet."""
        directory.mkdir()
        (directory / _DICT_FILE).write_bytes(msgspec.msgpack.encode(self._entries))

    def load(self, directory: Path | None) -> None:
        """Replace everything by what `save` wrote into *directory*; by nothing without one."""
        encoded = b"\x80" if directory is None else (directory / _DICT_FILE).read_bytes()
        self._entries = msgspec.msgpack.decode(encoded, type=dict[bytes, bytes])

    def close(self) -> None:
        """Do nothing."""


class RocksJoinStore:
    """A store in RocksDB; *directory* is the working copy, made by `load`.

    Damaged files raise `StoreError` and are noted beside the working copy: the next `load` begins
    with an empty store. What it held is a day of impressions without labels, and learned weights
    are worth more than those.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mark = directory.with_name(directory.name + DAMAGED_SUFFIX)
        self._memory = RocksMemory.of(_MEMORY_MIB)
        self._lock: IO[bytes] | None = None
        self._db: Any = None

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the value of each key, None where there is none."""
        try:
            return list(self._db.get(list(keys)))
        except Exception as error:  # rocksdict raises nothing narrower
            raise self._failure(error, "read") from error

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value of *key*."""
        try:
            self._db.put(key, value)
        except Exception as error:
            raise self._failure(error, "written") from error

    def delete(self, key: bytes) -> None:
        """Remove *key*, if it is there."""
        try:
            self._db.delete(key)
        except Exception as error:
            raise self._failure(error, "written") from error

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Remove the keys from *start* on and below *end*."""
        try:
            self._db.delete_range(start, end)
        except Exception as error:
            raise self._failure(error, "written") from error

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield what lies from *start* on and below *end*, in order.

        An iterator of RocksDB ends at damage as at its end, so that it is asked which it was.
        """
        iterator = self._db.iter()
        iterator.seek(start)
        while iterator.valid():
            key = iterator.key()
            if key >= end:
                return
            yield key, iterator.value()
            iterator.next()
        try:
            iterator.status()
        except Exception as error:
            raise self._failure(error, "read") from error

    def purge(self, prefixes: Sequence[bytes]) -> None:
        """Rewrite the files that have keys under *prefixes*, so that nothing deleted is left."""
        self._db.flush()
        for prefix in prefixes:
            how = rocksdict.CompactOptions()
            how.set_bottommost_level_compaction(rocksdict.BottommostLevelCompaction.force())
            self._db.compact_range(prefix, end_of(prefix), how)

    def save(self, directory: Path) -> None:
        """Write everything into *directory*, which does not exist yet: links, where possible."""
        try:
            rocksdict.Checkpoint(self._db).create_checkpoint(str(directory))
        except Exception as error:
            raise self._failure(error, "saved") from error

    def load(self, directory: Path | None) -> None:
        """Replace everything by what `save` wrote into *directory*; by nothing without one.

        Raises:
            ContractError: another process has the working copy.
        """
        self._close_database()
        self._hold()
        if directory is not None and self._mark.exists():
            log.warning("join_store_discarded", reason="it was found damaged while it was read")
            directory = None
        self._clear()
        if directory is not None:
            _link_files(directory, self._directory)
        try:
            self._db = self._opened()
        except StoreError as error:
            log.warning("join_store_discarded", reason=str(error))
            self._clear()
            self._db = self._opened()

    def close(self) -> None:
        """Close for good; what was not saved is lost."""
        self._close_database()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _close_database(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _hold(self) -> None:
        """Lock the working copy, which the other process would lose."""
        if self._lock is None:
            self._directory.parent.mkdir(parents=True, exist_ok=True)
            self._lock = lock.hold(self._directory.with_name(self._directory.name + LOCK_SUFFIX))
        if self._lock is None:
            raise ContractError(
                f"{self._directory} belongs to another process: there is one trainer, stop one"
            )

    def _clear(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)
        self._mark.unlink(missing_ok=True)

    def _opened(self) -> Any:
        try:
            opened = rocksdict.Rdict(str(self._directory), options_within(self._memory))
            how: Any = rocksdict.WriteOptions()  # its stub takes the attribute for a method
            how.disable_wal = True
            opened.set_write_options(how)
        except Exception as error:
            raise self._failure(error, "opened") from error
        return opened

    def _failure(self, error: Exception, what: str) -> NextwatchError:
        text = f"the joiner's store {self._directory} cannot be {what}: {error}"
        if is_storage_full(error):
            return StorageFull(f"{text}: make room there and start again")
        self._mark.touch()
        return StoreError(f"{text}: the next start begins with an empty one")


def end_of(prefix: bytes) -> bytes:
    """Return a key behind all that begin with *prefix* and have hashes after it."""
    return prefix + b"\xff" * 64


def _link_files(source: Path, target: Path) -> None:
    """Make *target* a copy of *source*; files that RocksDB never changes are the same ones."""
    for path in source.iterdir():
        if path.suffix == _IMMUTABLE:
            try:
                os.link(path, target / path.name)
                continue
            except OSError:
                pass  # another file system
        shutil.copyfile(path, target / path.name)
