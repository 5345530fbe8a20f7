"""Give the windows of all users, ordered by user id: from the changelog, or from a log.

The changelog is read once, to its end, into a store on disk, since a user may have several records
in it and the newest counts. So memory does not grow with the number of users, and a job that was
killed goes on with the same windows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, get_args

import numpy as np

from contract.errors import WindowError
from contract.kafka.records import Received
from contract.process.rocksdb import RocksMemory
from contract.wire.keys import partition_of
from contract.wire.topics import WINDOWS
from models.history import codec
from models.history.erasure import is_marker_key
from models.history.history import EMPTY, Happened, Window, WindowPolicy, fold
from nextwatch.datasets.log import ExposureLog
from nextwatch.operate.scan import Scan
from streams.state.store import RocksStore

CACHE_MB = 64
_WRITE_USERS = 2_000
_WHOLE = "whole"
_HAPPENED = get_args(Happened)


class Users(Protocol):
    """The windows of many users."""

    def scan(self, after: str = "") -> Iterator[tuple[str, Window]]:
        """Yield each user behind *after* and the window, ordered by user id."""
        ...

    def get(self, user_ids: Sequence[str]) -> list[Window]:
        """Return the window of each user, empty for those that are not known."""
        ...

    @property
    def num_users(self) -> int:
        """The number of users."""
        ...


class StoredUsers:
    """The windows of the changelog, in a store below *directory*."""

    def __init__(self, directory: Path) -> None:
        """Open the store in *directory*, or make one there.

        Raises:
            StoreError: its files are damaged.
            StorageFull: there is no room to open it.
        """
        self._store = RocksStore(directory, RocksMemory.of(CACHE_MB))

    @property
    def is_whole(self) -> bool:
        """Whether the changelog was read to its end."""
        return self._store.offset(_WHOLE) is not None

    @property
    def num_users(self) -> int:
        """The number of users, once the changelog was read to its end."""
        return self._store.offset(_WHOLE) or 0

    def fill(self, scan: Scan) -> None:
        """Read the changelog to its end, in place of what the store had.

        A record on another partition than its user's is left out: `nextwatch repartition` leaves
        tombstones where windows were, and they are newer than the windows.

        Raises:
            BrokerUnavailable: the broker does not answer, or no longer.
            ContractError: there is no changelog.
        """
        count = len(scan.partitions(WINDOWS.name))
        windows: dict[str, bytes | None] = {}
        for record in scan.read([WINDOWS.name]):
            if not _is_window(record, count):
                continue
            assert record.key is not None
            windows[record.key.decode(errors="replace")] = record.value
            if len(windows) >= _WRITE_USERS:
                self.put(windows)
                windows = {}
        self.put(windows)
        self.mark_whole()

    def put(self, records: Mapping[str, bytes | None]) -> None:
        """Put the record of each user; None deletes it."""
        self._store.write(records, {})

    def mark_whole(self) -> None:
        """Note that all users are there."""
        num_users = sum(1 for _ in self._store.scan())
        self._store.write({}, {_WHOLE: num_users})

    def scan(self, after: str = "") -> Iterator[tuple[str, Window]]:
        """Yield each user behind *after* and the window; damaged records are left out."""
        for user_id, record in self._store.scan(after):
            window = _decoded(record)
            if user_id != after and window is not None:
                yield user_id, window

    def get(self, user_ids: Sequence[str]) -> list[Window]:
        """Return the window of each user, empty for those that are not known."""
        records = self._store.get(user_ids)
        return [(_decoded(record) if record else None) or EMPTY for record in records]

    def close(self) -> None:
        """Close the store."""
        self._store.close()


class LoggedUsers:
    """The windows that a log leaves behind, folded when they are asked for."""

    def __init__(self, log: ExposureLog, policy: WindowPolicy) -> None:
        self._log = log
        self._policy = policy
        order = np.argsort(log.user, kind="stable")  # by time within a user
        numbers, starts = np.unique(log.user[order], return_index=True)
        rows = np.split(order, starts[1:])
        of_user = {f"u{user}": rows for user, rows in zip(numbers.tolist(), rows, strict=True)}
        self._rows = dict(sorted(of_user.items()))

    @property
    def num_users(self) -> int:
        """The number of users in the log."""
        return len(self._rows)

    def scan(self, after: str = "") -> Iterator[tuple[str, Window]]:
        """Yield each user behind *after* and the window, ordered by user id."""
        for user_id in self._rows:
            if user_id > after:
                yield user_id, self._window(user_id)

    def get(self, user_ids: Sequence[str]) -> list[Window]:
        """Return the window of each user, empty for those that are not in the log."""
        return [self._window(user_id) for user_id in user_ids]

    def _window(self, user_id: str) -> Window:
        rows = self._rows.get(user_id)
        if rows is None:
            return EMPTY
        events = [event for row in rows.tolist() for event in self._log.events(row)]
        happened = [event for event in events if isinstance(event, _HAPPENED)]
        return fold(EMPTY, happened, self._policy)


def filled(directory: Path, scan_of_broker: Callable[[], Scan]) -> StoredUsers:
    """Return the users in *directory*, read from the broker if they are not there yet."""
    users = StoredUsers(directory)
    if not users.is_whole:
        users.fill(scan_of_broker())
    return users


def _is_window(record: Received, num_partitions: int) -> bool:
    if not record.key or is_marker_key(record.key):
        return False
    return partition_of(record.key, num_partitions) == record.partition


def _decoded(record: bytes) -> Window | None:
    try:
        return codec.decode(record)
    except WindowError:
        return None
