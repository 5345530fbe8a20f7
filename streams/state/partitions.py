"""Open the partitions of this worker: their windows, and the offsets to read from.

Opening a partition ends in all windows ever published merged with those kept here,
and in the offsets to consume from: where the group is, and earlier by a rewind when somebody else
wrote the changelog since, because an owner that was paused may have overwritten newer records with
older ones (a zombie: docs/glossary.md). While a partition is ours, `heal` finds such records and
has the right ones published again.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Protocol

import structlog

from contract.errors import NextwatchError
from contract.kafka.records import Position
from models.history.history import WindowPolicy
from streams.state.changelog import LoggedWindow
from streams.state.logs import Log
from streams.state.partition import CHANGELOG, Partition
from streams.state.store import WindowStore

log = structlog.get_logger()

SLICE = 500
"""Windows that are merged, or healed, at once."""


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
        check_windows: Callable[[int, Iterable[tuple[str, bytes]]], None] = lambda _at, _windows: (
            None
        ),
    ) -> None:
        self._open_store = open_store
        self._check_windows = check_windows
        self._read_changelog = read_changelog
        self._policy = policy
        self._rewind_records = rewind_records
        self._open: dict[int, Partition] = {}
        self._adopted: set[int] = set()
        self._is_suspended = False

    def get(self, number: int) -> Partition | None:
        """Return the open partition *number*, None when it is not this worker's just now."""
        return None if self._is_suspended else self._open.get(number)

    def suspend(self) -> None:
        """Accept no more records until `assign` gives the partitions of this worker."""
        self._is_suspended = True

    def assign(
        self, committed: Mapping[Position, int | None], logs: Mapping[Position, Log]
    ) -> dict[Position, int]:
        """Own exactly the partitions in *committed*; return the offset to read each one from.

        *logs* has the logs of all of these, and of the changelogs under `CHANGELOG`.
        """
        self.close(set(self._open) - {at.partition for at in committed})
        return self.add(committed, logs)

    def add(
        self, committed: Mapping[Position, int | None], logs: Mapping[Position, Log]
    ) -> dict[Position, int]:
        """Own the partitions in *committed*, too; return the offset to read each of all from."""
        numbers = {at.partition for at in committed}
        kept = (set(self._open) - self._adopted) & numbers
        self._open_stores(numbers)
        for number in numbers:
            self._open[number].find_changelog(logs[Position(CHANGELOG, number)])
        read = self._read_on([self._open[number] for number in sorted(numbers)])
        foreign = sorted({*read, *(self._adopted & numbers)})
        for number in sorted(numbers - kept):
            self._check_windows(number, self._open[number].store.scan())
        self._adopted.clear()
        for at, group_offset in committed.items():
            self._open[at.partition].start(
                at.topic,
                logs[at],
                committed=group_offset,
                rewind=self._rewind_records if at.partition in foreign else 0,
            )
        self._is_suspended = False
        opened = numbers - kept
        log.info(
            "partitions_assigned",
            kept=sorted(self._open.keys() - opened),
            opened=sorted(opened),
            rewound=foreign,
        )
        return self._acknowledged()

    def replaced(self, sources: Mapping[Position, Log]) -> list[Position]:
        """Return which of *sources* have the name of a log that is read, and are another log.

        Asked from any thread.
        """
        return [
            at
            for at, source in sources.items()
            if (partition := self.get(at.partition)) is not None
            and partition.is_replaced(at.topic, source)
        ]

    def start_again(self, sources: Mapping[Position, Log]) -> dict[Position, int]:
        """Return where to read on everywhere, now that the logs are *sources*.

        To be called while no batch is under way.
        """
        for at, source in sources.items():
            partition = self.get(at.partition)
            if partition is not None and partition.positions.is_read(at.topic):
                answered = partition.positions.answered[at.topic]
                partition.start(at.topic, source, committed=answered, rewind=0)
        return {} if self._is_suspended else self._acknowledged()

    def hold(self, numbers: Collection[int]) -> None:
        """Keep exactly the stores of *numbers* open."""
        self.close(set(self._open) - set(numbers))
        self._open_stores(numbers)

    def release(self, numbers: Collection[int]) -> list[Partition]:
        """Return those of *numbers* that are open, as they are, and drop them here."""
        return [self._open.pop(number) for number in sorted(set(self._open) & set(numbers))]

    def adopt(self, partitions: Iterable[Partition]) -> None:
        """Take over open *partitions* of another owner; `assign` decides if they are ours."""
        for partition in partitions:
            self._open[partition.number] = partition
            self._adopted.add(partition.number)

    def close(self, numbers: Iterable[int] | None = None) -> None:
        """Close *numbers*, or everything."""
        for number in list(self._open) if numbers is None else list(numbers):
            partition = self._open.pop(number)
            partition.remember()
            partition.store.close()

    def committable(self) -> dict[Position, int]:
        """Return the offsets whose every effect is acknowledged and that the group lacks."""
        return {
            Position(topic, partition.number): offset
            for partition in list(self._open.values())
            for topic, offset in partition.positions.committable().items()
        }

    def marks(self) -> dict[Position, int]:
        """Return the acknowledged offsets, and how far each changelog was merged."""
        found = {
            Position(CHANGELOG, partition.number): partition.changelog_next
            for partition in list(self._open.values())
        }
        return found | self._acknowledged()

    def restore(self) -> list[int]:
        """Merge the unread records of the changelog; return the partitions that had any."""
        return self._read_on(list(self._open.values()))

    def kept_alone(
        self, changelogs: Mapping[int, Log]
    ) -> Iterator[tuple[Partition, dict[bytes, bytes | None]]]:
        """Yield, by partition, what to publish of the stores whose changelog was replaced.

        For a worker that has no partition yet: the group may give them to others, who have nothing
        of these windows. A record of the past does no harm, since an owner heals what it knows
        better.
        """
        for number, changelog in sorted(changelogs.items()):
            try:
                store = self._open_store(number)
            except NextwatchError as error:  # it ends the worker that gets the partition
                log.warning("store_not_opened", partition=number, reason=str(error))
                continue
            partition = Partition.opened(number, store, self._policy)
            try:
                if partition.is_kept_here_alone(changelog):
                    for records in partition.take_everything(SLICE):
                        yield partition, records
            finally:
                store.close()

    @property
    def is_unhealed(self) -> bool:
        """Whether a changelog of ours lacks something that is here."""
        partitions = list(self._open.values())
        return any(each.is_unhealed or each.replacement is not None for each in partitions)

    @property
    def is_suspect(self) -> bool:
        """Whether another worker may have written to a changelog of ours, or it lacks something."""
        return any(each.is_suspect or each.is_unhealed for each in list(self._open.values()))

    def note_changelogs(
        self, changelogs: Mapping[Position, Log], *, marks: Mapping[Position, int]
    ) -> None:
        """Note, from any thread, what *changelogs* are now; *marks* are those before the look.

        A record after our last one shows in the end, and a topic that was made anew in its id.
        """
        for at, changelog in changelogs.items():
            if (partition := self.get(at.partition)) is not None:
                partition.note_changelog(changelog, was_next=marks[at])

    def heal(self) -> Iterator[tuple[int, dict[bytes, bytes | None]]]:
        """Read what others wrote to our changelogs; yield, by partition, what to publish.

        To be called while no batch is under way; what is yielded has to be acknowledged before
        the next is asked for.
        """
        if self._is_suspended:
            return
        partitions = list(self._open.values())
        for partition in partitions:
            partition.take_replacement()
        self._read_on([partition for partition in partitions if partition.is_suspect])
        for partition in partitions:
            num_healed = 0
            while records := partition.take_unhealed(SLICE):
                num_healed += len(records)
                yield partition.number, records
            if num_healed:
                log.warning("windows_healed", partition=partition.number, records=num_healed)

    def _open_stores(self, numbers: Collection[int]) -> None:
        for number in sorted(set(numbers) - set(self._open)):
            store = self._open_store(number)
            self._open[number] = Partition.opened(number, store, self._policy)

    def _acknowledged(self) -> dict[Position, int]:
        return {
            Position(topic, partition.number): offset
            for partition in list(self._open.values())
            for topic, offset in list(partition.positions.acknowledged.items())
        }

    def _read_on(self, partitions: Collection[Partition]) -> list[int]:
        reading = {partition.number: partition for partition in partitions}
        start = {number: partition.changelog_seen for number, partition in reading.items()}
        ends = {number: partition.changelog_end for number, partition in reading.items()}
        foreign: dict[int, int] = defaultdict(int)
        for number, records in groupby(self._read_changelog(start), key=lambda r: r.partition):
            for batch in _sliced(records):
                reading[number].merge(batch)
                foreign[number] += len(batch)
        for number, partition in reading.items():
            partition.note_read(ends[number])
        if foreign:
            log.info("changelog_read", records=dict(foreign))
        return sorted(foreign)


def _sliced(records: Iterable[LoggedWindow]) -> Iterator[list[LoggedWindow]]:
    batch: list[LoggedWindow] = []
    for record in records:
        batch.append(record)
        if len(batch) >= SLICE:
            yield batch
            batch = []
    if batch:
        yield batch
