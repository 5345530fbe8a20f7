"""Read all partitions of the topics, from the offsets of the checkpoint.

It is not a member of a group: offsets live in the checkpoint, and what is committed is for Kafka's
own tools, which show the lag by it; it is never read back. One process reads all partitions.

An offset is only valid for the log it came from. A topic of another id than the checkpoint
remembers was created again, and a log that ends before the offset was cut.

Announcements of bundles have a consumer of their own, and come first: what was fetched of the other
topics may be minutes of work, and a generation that is withdrawn must not be followed meanwhile by
one that knows what it knew.

A restart takes the records of the journal in its order (`follow`), whatever order they are fetched
in; what is fetched too early waits, and a partition of which too much waits is paused.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from time import monotonic

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from contract.cluster.needs import group_of
from contract.errors import BrokerUnavailable, ContractError
from contract.kafka.client import (
    ClientConfig,
    client_config,
    consumer_config,
    is_retriable,
    unhurried,
)
from contract.kafka.records import Position, Received, received
from contract.kafka.topic_ids import topic_ids
from contract.kafka.topic_reader import TopicReader, is_lasting, is_out_of_range
from contract.process.settings import KafkaSettings
from contract.wire.topics import MODEL_BUNDLES, Layout, Topic
from trainer.state.checkpoint import Offsets
from trainer.state.journal import Run

log = structlog.get_logger()

_FETCH_WAIT_MS = 200  # learning is paced in seconds: fewer fetches leave the cores to serving
_TIMEOUT_S = 10.0
_FETCHED_AT_ONCE = 500
_MAX_AHEAD = 5_000
"""A partition of which so many records wait for those of other partitions is paused."""
_CUT_AFTER_S = 30.0
"""A log that ends before what was read of it once is given so long to tell another end."""

Identify = Callable[[Collection[str]], Mapping[str, int]]
"""Returns the ids of topics by their full names; none where the broker tells none."""

CommitListener = Callable[[KafkaError | None, Sequence[TopicPartition]], None]


class BrokerLostRecordsError(ContractError):
    """The broker no longer has the records at the offsets of the checkpoint."""


def feed_config(settings: KafkaSettings) -> ClientConfig:
    """Return the configuration of the feed's consumer."""
    config = consumer_config(settings, group_id=group_of("trainer", settings.layout))
    return unhurried(config, within_ms=_FETCH_WAIT_MS) | {
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
    }


def identify(settings: KafkaSettings) -> Identify:
    """Return a function that asks the broker for the ids of topics, with a client for each call."""

    def ask(names: Collection[str]) -> Mapping[str, int]:
        return topic_ids(AdminClient(client_config(settings)), names, within_s=_TIMEOUT_S)

    return ask


def commit_listener(on_refusal: Callable[[], None]) -> CommitListener:
    """Return a commit callback for a consumer; *on_refusal* is called when a commit was refused."""

    def note(error: KafkaError | None, places: Sequence[TopicPartition]) -> None:
        errors = [error, *(place.error for place in places)]
        refusals = [each for each in errors if each is not None and not is_retriable(each)]
        if refusals:
            log.warning("offsets_not_told", reason=refusals[0].str())
            on_refusal()

    return note


class Feed:
    """Reads all partitions of some topics, from given offsets on."""

    def __init__(
        self,
        consumer: Consumer,
        layout: Layout,
        identify: Identify,
        owns: Callable[[Position], bool] = lambda _at: True,
        *,
        announcing: Consumer | None = None,
    ) -> None:
        """Read with *consumer* the partitions that it *owns*, announcements with *announcing*."""
        self._consumer = consumer
        self._owns = owns
        self._layout = layout
        self._identify = identify
        self._reader = TopicReader(consumer, layout, on_error=self._is_dealt_with)
        self._readers = [self._reader]
        if announcing is not None:
            self._readers.append(TopicReader(announcing, layout, on_error=self._is_dealt_with))
        self._unverified: dict[Position, int] = {}
        self._waiting: dict[Position, deque[Received]] = {}
        self._paused: set[Position] = set()
        self.next_offsets: Offsets = {}
        self.topic_ids: dict[str, int] = {}
        """By topic the id that its offsets belong to; 0 where the broker tells none."""

    def open(
        self,
        topics: Sequence[Topic],
        offsets: Mapping[str, Mapping[int, int]],
        topic_ids: Mapping[str, int] = {},
    ) -> None:
        """Read *topics*, each partition from its offset in *offsets*, or from its beginning.

        Offsets are those of the topics with *topic_ids*; a topic without one is taken as it is.
        May be called again: what has been read since goes on from where it stands.

        Raises:
            BrokerUnavailable: the broker does not answer.
            BrokerLostRecordsError: a topic with offsets was created again.
            ContractError: a topic does not exist.
        """
        start: dict[Position, int] = {}
        self._waiting, self._paused = {}, set()  # what was not handed over is fetched again
        for at in self._reader.partitions([each.name for each in topics], within_s=_TIMEOUT_S):
            if not self._owns(at):
                continue
            known = {**offsets.get(at.topic, {}), **self.next_offsets.get(at.topic, {})}
            if at.partition in known:
                self._unverified[at] = known[at.partition]
                self.next_offsets.setdefault(at.topic, {})[at.partition] = known[at.partition]
            start[at] = known.get(at.partition, OFFSET_BEGINNING)
        self._check_ids(topics, {**topic_ids, **self.topic_ids})
        for reader in self._readers:
            reader.assign(
                {at: first for at, first in start.items() if self._reader_of(at) is reader}
            )

    def poll(self, *, most: int, timeout_s: float) -> list[Received]:
        """Return up to *most* records as soon as there is one, none after *timeout_s*.

        What *announcing* has comes beside, without being waited for.

        Raises:
            BrokerUnavailable: the broker refused.
            ContractError: a right is missing.
            BrokerLostRecordsError: a partition ends before the offset it was to be read from.
        """
        announced = [
            record for reader in self._readers[1:] for record in self._received(reader, most, 0.0)
        ]
        self._note(announced)
        if self._waiting:
            return announced + self._ahead(most)
        records = self._fetch(most, 0.0 if announced else timeout_s)
        self._note(records)
        return announced + records

    def follow(self, run: Run, should_stop: Callable[[], bool] = lambda: False) -> list[Received]:
        """Return the records of *run* that the broker still has; records of others wait.

        Raises:
            BrokerLostRecordsError: the partition ends before the end of the run.
        """
        at, cut_s = Position(run.topic, run.partition), monotonic() + _CUT_AFTER_S
        while not self._reaches(at, run.last) and not should_stop():
            self._fetch_ahead(at)
            if self._reader.newest_ends.get(at, run.last + 1) > run.last:
                cut_s = monotonic() + _CUT_AFTER_S
            elif monotonic() > cut_s:
                raise _ends_before(at, run.last + 1)
        waiting, records = self._waiting.get(at, deque()), []
        while waiting and waiting[0].offset <= run.last:
            records.append(waiting.popleft())
        if not waiting:
            self._waiting.pop(at, None)
        if len(records) != run.count and not should_stop():
            log.warning("journal_records_gone", topic=at.topic, partition=at.partition,
                        records=run.count - len(records))  # fmt: skip
        self._note(records)
        return records

    def commit(self, offsets: Offsets) -> None:
        """Commit *offsets* for Kafka's tools; a failure changes nothing here."""
        told = [
            self._reader.place(Position(topic, number), offset)
            for topic, next_offsets in offsets.items()
            for number, offset in next_offsets.items()
        ]
        if not told:
            return
        try:
            self._consumer.commit(offsets=told, asynchronous=True)
        except KafkaException as error:
            log.warning("offsets_not_told", reason=error.args[0].str())

    def note_ids(self) -> None:
        """Look up the ids of topics that records were read of for the first time since `open`.

        Not earlier: a topic of which nothing was read may be created again without a loss. If
        the broker does not answer, they are looked up the next time.
        """
        unknown = [name for name in self.next_offsets if name not in self.topic_ids]
        try:
            self.topic_ids |= self._ids_of(unknown)
        except BrokerUnavailable as error:
            log.warning("topic_ids_unknown", reason=str(error))

    def has_read(self, topics: Sequence[Topic]) -> bool:
        """Return whether *topics* were read to their ends at least once since `open`."""
        names = {topic.name for topic in topics}
        unread = {*self._unread, *self._waiting}
        return not any(at.topic in names for at in unread)

    @property
    def is_verified(self) -> bool:
        """Whether every partition is known to reach to where reading it started."""
        return not self._unverified

    def at_end(self) -> set[tuple[str, int]]:
        """Return topics and partitions of which every record was read, as far as is known."""
        return {
            (at.topic, at.partition)
            for at, end in self._reader.newest_ends.items()
            if self.next_offsets.get(at.topic, {}).get(at.partition, 0) <= end
        }

    def records_left(self) -> int:
        """Return how many offsets are unread in the partitions whose ends are known."""
        ends = {at: self._reader_of(at).cached_end(at) for at in self._unread}
        return sum(
            max(0, end - self.next_offsets.get(at.topic, {}).get(at.partition, 0))
            for at, end in ends.items()
        )

    def num_behind(self) -> dict[Position, int]:
        """Return how many offsets of each partition are unread, as far as its end is known."""
        return self._reader.num_behind(
            {
                Position(topic, number): offset
                for topic, offsets in self.next_offsets.items()
                for number, offset in offsets.items()
            }
        )

    def forget(self) -> None:
        """Forget every offset, so that `open` reads from the beginning."""
        self.next_offsets = {}
        self.topic_ids = {}
        self._unverified = {}

    def close(self) -> None:
        """Leave the broker."""
        for reader in self._readers:
            reader.close()

    def _reader_of(self, at: Position) -> TopicReader:
        return self._readers[-1 if at.topic == MODEL_BUNDLES.name else 0]

    @property
    def _unread(self) -> set[Position]:
        return {at for reader in self._readers for at in reader.unread}

    def _note(self, records: Sequence[Received]) -> None:
        """Note that *records* are handed over."""
        for record in records:
            self.next_offsets.setdefault(record.topic, {})[record.partition] = record.offset + 1

    def _fetch(self, most: int, timeout_s: float) -> list[Received]:
        records = self._received(self._reader, most, timeout_s)
        if self._unverified:
            self._verify()
        return records

    def _received(self, reader: TopicReader, most: int, timeout_s: float) -> list[Received]:
        return [
            received(message, self._layout) for message in reader.poll(most, within_s=timeout_s)
        ]

    def _reaches(self, at: Position, last: int) -> bool:
        """Return whether all records up to *last* wait, or the log is known to have no more."""
        waiting = self._waiting.get(at)
        if waiting and waiting[-1].offset >= last:
            return True
        return at not in self._paused and self._reader.newest_ends.get(at, -1) > last

    def _fetch_ahead(self, wanted: Position) -> None:
        """Fetch once; of partitions other than *wanted* no more than waits for its turn."""
        if wanted in self._paused:
            self._paused.remove(wanted)
            self._consumer.resume([self._reader.place(wanted)])
        for record in self._fetch(_FETCHED_AT_ONCE, _FETCH_WAIT_MS / 1_000):
            self._waiting.setdefault(record.at, deque()).append(record)
        full = {at for at, waiting in self._waiting.items() if len(waiting) >= _MAX_AHEAD}
        if new := full - self._paused - {wanted}:
            self._consumer.pause([self._reader.place(at) for at in new])
            self._paused |= new

    def _ahead(self, most: int) -> list[Received]:
        """Hand over up to *most* of what was fetched too early; then nothing is paused."""
        at = next(iter(self._waiting))
        records = list(islice(self._waiting[at], most))
        for _ in records:
            self._waiting[at].popleft()
        if not self._waiting[at]:
            del self._waiting[at]
        if not self._waiting and self._paused:
            self._consumer.resume([self._reader.place(at) for at in self._paused])
            self._paused = set()
        self._note(records)
        return records

    def _is_dealt_with(self, at: Position, error: KafkaError) -> bool:
        if is_out_of_range(error):
            self._go_to_what_is_left(at)
            return True
        if not is_lasting(error):
            log.warning("fetch_failed", topic=at.topic, partition=at.partition, reason=error.str())
        return False

    def _go_to_what_is_left(self, at: Position) -> None:
        """Retention deleted records that were not learned from: go on with the first one left.

        librdkafka has stopped reading the partition, and seeks in none that it does not read.
        """
        first = self._reader_of(at).first_offset(at, within_s=_TIMEOUT_S)
        waiting = self._waiting.get(at)
        wanted = self.next_offsets.get(at.topic, {}).get(at.partition, 0)
        if waiting:
            wanted = waiting[-1].offset + 1
        if first < wanted:
            raise _ends_before(at, wanted)
        log.warning(
            "records_gone",
            topic=at.topic,
            partition=at.partition,
            records=first - wanted,
            expected=wanted,
            start=first,
        )
        self._unverified.pop(at, None)
        if not waiting:
            self.next_offsets.setdefault(at.topic, {})[at.partition] = first
        self._reader_of(at).seek(at, first)

    def _check_ids(self, topics: Sequence[Topic], remembered: Mapping[str, int]) -> None:
        """Compare the ids of *topics* that have offsets with those that are *remembered*."""
        with_offsets = [topic.name for topic in topics if topic.name in self.next_offsets]
        for name, topic_id in self._ids_of(with_offsets).items():
            expected = remembered.get(name, 0)
            if topic_id and expected not in (0, topic_id):
                raise _lost(f"{name} was deleted and created again since the checkpoint")
            self.topic_ids[name] = topic_id or expected

    def _ids_of(self, names: Sequence[str]) -> dict[str, int]:
        if not names:
            return {}
        found = self._identify([self._layout.prefix + name for name in names])
        return {name: found.get(self._layout.prefix + name, 0) for name in names}

    def _verify(self) -> None:
        """Compare where reading started with the end of the log, once a fetch has told it.

        The end that a fetch tells is right everywhere; the one that ListOffsets tells is not.
        """
        for at, start in list(self._unverified.items()):
            end = self._reader_of(at).cached_end(at)
            if end >= 0:
                del self._unverified[at]
                if end < start:
                    raise _ends_before(at, start)


def _ends_before(at: Position, wanted: int) -> BrokerLostRecordsError:
    return _lost(
        f"{at.topic}[{at.partition}] ends before offset {wanted}, where the checkpoint stands"
    )


def _lost(what: str) -> BrokerLostRecordsError:
    return BrokerLostRecordsError(
        f"the broker has lost records: {what}. "
        "Move NEXTWATCH_TRAINER_CHECKPOINT_DIR away to start over, or set "
        "NEXTWATCH_TRAINER_AFTER_BROKER_LOSS=continue to keep what was learned and read what "
        "the broker has from its beginning"
    )
