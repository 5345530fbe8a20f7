"""The partitions this worker owns: their windows, and where to read on.

Opening a partition ends in the windows that everybody ever published merged with those kept
here, and in the offsets to consume from: never later than what the store or the group has
seen, and earlier by a rewind when somebody else wrote the changelog since, because an owner
that was paused may have overwritten newer records with older ones (FAULTS: zombies). While a
partition is ours, `heal` finds such records and has the right ones published again.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Protocol

import structlog

from contract.clock import Clock
from contract.records import Position
from models.history import WindowPolicy
from streams.changelog import LoggedWindow
from streams.partition import CHANGELOG, Partition
from streams.store import RocksMemory, RocksStore, WindowStore, discard, was_closed_cleanly

log = structlog.get_logger()

MERGE_BATCH = 500


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
        self._adopted: set[int] = set()
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
        kept = (set(self._open) - self._adopted) & numbers
        self.hold(numbers)
        foreign = sorted({*self.restore(), *self._adopted})
        self._adopted.clear()
        start: dict[Position, int] = {}
        for at, group_offset in committed.items():
            partition = self._open[at.partition]
            rewind = self._rewind_records if at.partition in foreign else 0
            seen = _seen(partition, at.topic, group_offset)
            if seen and not partition.knows(at.topic):
                log.error("state_nowhere", topic=at.topic, partition=at.partition, committed=seen)
                seen = 0
            start[at] = max(earliest[at], seen - rewind)
            partition.start_at(at.topic, start[at], committed=group_offset)
        self._is_suspended = False
        log.info(
            "partitions_assigned", kept=sorted(kept), opened=sorted(numbers - kept), rewound=foreign
        )
        return start

    def hold(self, numbers: Collection[int]) -> None:
        """Keep exactly the stores of *numbers* open."""
        self.close(set(self._open) - set(numbers))
        for number in sorted(set(numbers) - set(self._open)):
            store = self._open_store(number)
            self._open[number] = Partition.opened(number, store, self._policy)

    def release(self, numbers: Collection[int]) -> list[Partition]:
        """Give away those of *numbers* that are open, as they are."""
        return [self._open.pop(number) for number in sorted(set(self._open) & set(numbers))]

    def adopt(self, partitions: Iterable[Partition]) -> None:
        """Take over open *partitions* that somebody else wrote; `assign` says if they are ours."""
        for partition in partitions:
            self._open[partition.number] = partition
            self._adopted.add(partition.number)

    def close(self, numbers: Iterable[int] | None = None) -> None:
        """Close *numbers*, or everything, leaving clean stores behind."""
        for number in list(self._open) if numbers is None else list(numbers):
            partition = self._open.pop(number)
            partition.store.write({}, {CHANGELOG: partition.changelog_seen})
            partition.store.close(now_ms=self._clock())

    def committable(self) -> dict[Position, int]:
        """Return the offsets whose every effect is acknowledged and that the group lacks."""
        return {
            Position(topic, partition.number): offset
            for partition in list(self._open.values())
            for topic, offset in list(partition.acknowledged.items())
            if offset > partition.answered_before[topic]
        }

    def marks(self) -> dict[Position, int]:
        """Return how far everything is: acknowledged offsets, and how far a changelog was merged."""
        found: dict[Position, int] = {}
        for partition in list(self._open.values()):
            found[Position(CHANGELOG, partition.number)] = partition.changelog_next
            for topic, offset in list(partition.acknowledged.items()):
                found[Position(topic, partition.number)] = offset
        return found

    def restore(self) -> list[int]:
        """Merge what the changelog has beyond what we know; return whose partitions had any."""
        return self._read_on(list(self._open.values()))

    @property
    def is_suspect(self) -> bool:
        """Whether somebody else wrote to a changelog of ours, or a record must be set right."""
        return any(
            partition.suspect_from is not None or partition.unhealed or partition.unhealed_seals
            for partition in list(self._open.values())
        )

    def heal(self, *, is_thorough: bool) -> dict[int, dict[bytes, bytes | None]]:
        """Read what others wrote to our changelogs; return, by partition, what to publish.

        *is_thorough* looks at every partition, not only where an offset gave somebody away: a
        record written after our last one shows in no offset of ours. To be called while no
        batch is under way.
        """
        if self._is_suspended:
            return {}
        partitions = list(self._open.values())
        self._read_on([p for p in partitions if is_thorough or p.suspect_from is not None])
        healing = {p.number: records for p in partitions if (records := p.take_unhealed())}
        if healing:
            log.warning("windows_healed", records={n: len(r) for n, r in healing.items()})
        return healing

    def _read_on(self, partitions: Collection[Partition]) -> list[int]:
        reading = {partition.number: partition for partition in partitions}
        start = {number: partition.changelog_seen for number, partition in reading.items()}
        foreign: dict[int, int] = defaultdict(int)
        for number, records in groupby(self._read_changelog(start), key=lambda r: r.partition):
            for batch in _sliced(records):
                reading[number].merge(batch)
                foreign[number] += len(batch)
        for partition in partitions:
            partition.suspect_from = None
        if foreign:
            log.info("changelog_read", records=dict(foreign))
        return sorted(foreign)


def _sliced(records: Iterable[LoggedWindow]) -> Iterable[list[LoggedWindow]]:
    batch: list[LoggedWindow] = []
    for record in records:
        batch.append(record)
        if len(batch) >= MERGE_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


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
