"""The partitions this worker owns: their windows, and where to read on.

Opening a partition ends in the windows that everybody ever published merged with those kept
here, and in the offsets to consume from: never later than what the store or the group has
seen, and earlier by a rewind when somebody else wrote the changelog since, because an owner
that was paused may have overwritten newer records with older ones (FAULTS: zombies).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Protocol

import structlog

from contract.clock import Clock
from contract.records import Position
from models import history_codec
from models.history import EMPTY, Window, WindowPolicy, merge
from streams.changelog import LoggedWindow
from streams.store import RocksMemory, RocksStore, WindowStore, discard, was_closed_cleanly

log = structlog.get_logger()

CHANGELOG = "changelog"
MERGE_BATCH = 500


@dataclass(slots=True)
class Partition:
    """One open partition. Offsets are by source topic and mean "next"."""

    number: int
    store: WindowStore
    changelog_next: int = 0
    expected: dict[str, int] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    answered_before: dict[str, int] = field(default_factory=dict)

    def windows(self, user_ids: Iterable[str]) -> dict[str, Window]:
        """Return the window of each user, empty for users never seen."""
        wanted = list(user_ids)
        records = self.store.get(wanted)
        return {
            user_id: EMPTY if record is None else history_codec.decode(record)
            for user_id, record in zip(wanted, records, strict=True)
        }

    def start_at(self, topic: str, offset: int, *, committed: int | None) -> None:
        """Expect *offset* next; what lies before *committed* has been answered already."""
        self.expected[topic] = offset
        self.acknowledged[topic] = offset
        self.answered_before[topic] = committed or 0


class ChangelogReader(Protocol):
    """Reads the changelog of some partitions from given offsets to their ends."""

    def __call__(self, start: Mapping[int, int]) -> Iterable[LoggedWindow]:
        """Yield the records of the partitions in *start*."""
        ...


class Partitions:
    """The open partitions of one worker. Used by one thread at a time, but for `committable`."""

    def __init__(
        self,
        open_store: Callable[[int], WindowStore],
        read_changelog: ChangelogReader,
        policy: WindowPolicy,
        *,
        rewind_records: int,
        clock: Clock,
    ) -> None:
        self._open_store = open_store
        self._read_changelog = read_changelog
        self._policy = policy
        self._rewind_records = rewind_records
        self._clock = clock
        self._open: dict[int, Partition] = {}
        self._is_suspended = False

    def get(self, number: int) -> Partition | None:
        """Return the open partition *number*, None when it is not this worker's just now."""
        return None if self._is_suspended else self._open.get(number)

    def suspend(self) -> None:
        """Take no more records until `assign` says whose partitions these are."""
        self._is_suspended = True

    def assign(
        self, committed: Mapping[Position, int | None], earliest: Mapping[Position, int]
    ) -> dict[Position, int]:
        """Own exactly the partitions in *committed*; return the offset to read each one from."""
        numbers = {at.partition for at in committed}
        self.close(set(self._open) - numbers)
        kept = set(self._open)
        for number in sorted(numbers - kept):
            store = self._open_store(number)
            self._open[number] = Partition(number, store, store.offset(CHANGELOG) or 0)
        foreign = self._restore()
        start: dict[Position, int] = {}
        for at, group_offset in committed.items():
            partition = self._open[at.partition]
            rewind = self._rewind_records if at.partition in foreign else 0
            start[at] = max(earliest[at], _seen(partition, at.topic, group_offset) - rewind)
            partition.start_at(at.topic, start[at], committed=group_offset)
        self._is_suspended = False
        log.info(
            "partitions_assigned", kept=sorted(kept), opened=sorted(numbers - kept), rewound=foreign
        )
        return start

    def close(self, numbers: Iterable[int] | None = None) -> None:
        """Close *numbers*, or everything, leaving clean stores behind."""
        for number in list(self._open) if numbers is None else list(numbers):
            partition = self._open.pop(number)
            partition.store.write({}, {CHANGELOG: partition.changelog_next})
            partition.store.close(now_ms=self._clock())

    def committable(self) -> dict[Position, int]:
        """Return the offsets whose every effect is acknowledged and that the group lacks."""
        return {
            Position(topic, partition.number): offset
            for partition in list(self._open.values())
            for topic, offset in list(partition.acknowledged.items())
            if offset > partition.answered_before[topic]
        }

    def _restore(self) -> list[int]:
        """Merge what the changelog has beyond what we know; return whose partitions had any."""
        start = {number: partition.changelog_next for number, partition in self._open.items()}
        foreign: dict[int, int] = defaultdict(int)
        for number, records in groupby(self._read_changelog(start), key=lambda r: r.partition):
            batch: list[LoggedWindow] = []
            for record in records:
                batch.append(record)
                if len(batch) >= MERGE_BATCH:
                    foreign[number] += self._merge(self._open[number], batch)
                    batch = []
            foreign[number] += self._merge(self._open[number], batch)
        if foreign:
            log.info("windows_restored", records=dict(foreign))
        return sorted(foreign)

    def _merge(self, partition: Partition, batch: list[LoggedWindow]) -> int:
        if not batch:
            return 0
        windows = partition.windows({logged.user_id for logged in batch})
        for logged in batch:
            if logged.record is not None:
                theirs = history_codec.decode(logged.record)
                windows[logged.user_id] = merge(windows[logged.user_id], theirs, self._policy)
        partition.changelog_next = batch[-1].offset + 1
        records = {user_id: history_codec.encode(window) for user_id, window in windows.items()}
        partition.store.write(records, {CHANGELOG: partition.changelog_next})
        return len(batch)


def _seen(partition: Partition, topic: str, group_offset: int | None) -> int:
    if topic in partition.acknowledged:
        return partition.acknowledged[topic]
    known = [at for at in (partition.store.offset(topic), group_offset) if at is not None]
    return min(known, default=0)


def rocks_opener(
    state_dir: Path, memory: RocksMemory, *, clock: Clock, max_idle_ms: int
) -> Callable[[int], WindowStore]:
    """Return a function that opens the RocksDB store of a partition below *state_dir*.

    A store that was not closed in order, or so long ago that the changelog may have dropped
    tombstones since, is discarded and rebuilt from the changelog.
    """

    def open_store(number: int) -> WindowStore:
        directory = state_dir / str(number)
        if not was_closed_cleanly(directory, since_ms=clock() - max_idle_ms):
            if directory.exists():
                log.warning("store_discarded", partition=number)
            discard(directory)
        return RocksStore(directory, memory)

    return open_store
