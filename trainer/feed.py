"""Read all partitions of the topics, from the offsets of the checkpoint.

It is no member of a group: offsets live in the checkpoint, and what is committed is for Kafka's
own tools, which show the lag by it; it is never read back. One process reads all partitions.

An offset is only valid for the log it came from. A topic of another id than the checkpoint
remembers was created again, and a log that ends before the offset was cut.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from contract.errors import BrokerUnavailable, ContractError
from contract.kafka import (
    ClientConfig,
    client_config,
    consumer_config,
    failure,
    is_retriable,
    partitions_of,
    retried,
    take,
    unhurried,
)
from contract.needs import group_of
from contract.records import Position, Received, received
from contract.settings import KafkaSettings
from contract.topic_ids import topic_ids
from contract.topics import Layout, Topic
from trainer.checkpoint import Offsets

log = structlog.get_logger()

_FETCH_WAIT_MS = 200  # learning is paced in seconds: fewer fetches leave the cores to serving
_TIMEOUT_S = 10.0
_OUT_OF_RANGE = (
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - librdkafka's own codes are spelt so
    KafkaError.OFFSET_OUT_OF_RANGE,
)


Identify = Callable[[Collection[str]], Mapping[str, int]]
"""Returns the ids of topics by their full names; none where the broker tells none."""

CommitListener = Callable[[KafkaError | None, Sequence[TopicPartition]], None]


class BrokerLostRecordsError(ContractError):
    """The broker does not have the records that the checkpoint stands at."""


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
    """Return what a consumer tells of its commits; *on_refusal* is called when one was refused."""

    def note(error: KafkaError | None, places: Sequence[TopicPartition]) -> None:
        errors = [error, *(place.error for place in places)]
        refusals = [each for each in errors if each is not None and not is_retriable(each)]
        if refusals:
            log.warning("offsets_not_told", reason=refusals[0].str())
            on_refusal()

    return note


class Feed:
    """Reads all partitions of some topics, from given offsets on."""

    def __init__(self, consumer: Consumer, layout: Layout, identify: Identify) -> None:
        self._consumer = consumer
        self._layout = layout
        self._identify = identify
        self._unread: set[Position] = set()
        self._unverified: dict[Position, int] = {}
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
        for topic in topics:
            known = {**offsets.get(topic.name, {}), **self.next_offsets.get(topic.name, {})}
            full_name = self._layout.name(topic)
            for number in partitions_of(self._consumer, full_name, within_s=_TIMEOUT_S):
                at = Position(topic.name, number)
                if number in known:
                    self._unverified[at] = known[number]
                    self.next_offsets.setdefault(topic.name, {})[number] = known[number]
                start[at] = known.get(number, OFFSET_BEGINNING)
        self._check_ids(topics, {**topic_ids, **self.topic_ids})
        self._unread = set(start)
        self._consumer.assign([self._place(at, offset) for at, offset in start.items()])

    def poll(self, *, most: int, timeout_s: float) -> list[Received]:
        """Return up to *most* records as soon as there is one, none after *timeout_s*.

        Raises:
            BrokerUnavailable: the broker refused.
            ContractError: a right is missing.
            BrokerLostRecordsError: a partition ends before the offset it was to be read from.
        """
        messages = take(self._consumer, most, within_s=timeout_s)
        records = [received(m, self._layout) for m in messages if self._is_record(m)]
        for record in records:
            self.next_offsets.setdefault(record.topic, {})[record.partition] = record.offset + 1
        if self._unverified:
            self._verify()
        return records

    def tell_group(self, offsets: Offsets) -> None:
        """Commit *offsets* for Kafka's tools to see; whether that is done changes nothing here."""
        told = [
            self._place(Position(topic, number), offset)
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
        return not any(at.topic in names for at in self._unread)

    @property
    def is_verified(self) -> bool:
        """Whether every partition is known to reach to where reading it started."""
        return not self._unverified

    def forget(self) -> None:
        """Forget every offset: `open` reads from the beginning then."""
        self.next_offsets = {}
        self.topic_ids = {}
        self._unverified = {}

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _is_record(self, message: Message) -> bool:
        """Return whether it is a record; what else librdkafka says is dealt with here."""
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            self._unread.discard(self._position(message))
        elif error.code() in _OUT_OF_RANGE:
            self._go_to_what_is_left(self._position(message))
        elif not is_retriable(error):
            raise failure(error, message.topic() or "")
        else:
            log.warning("fetch_failed", error=error.name(), topic=message.topic())
        return False

    def _go_to_what_is_left(self, at: Position) -> None:
        """Retention deleted records that were not learned from: go on with the first one left.

        librdkafka has stopped reading the partition, and seeks in none that it does not read.
        """
        first, _ = retried(
            lambda left_s: self._consumer.get_watermark_offsets(self._place(at), timeout=left_s),
            within_s=_TIMEOUT_S,
        )
        wanted = self.next_offsets.get(at.topic, {}).get(at.partition, 0)
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
        self.next_offsets.setdefault(at.topic, {})[at.partition] = first
        self._consumer.incremental_unassign([self._place(at)])
        self._consumer.incremental_assign([self._place(at, first)])

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
            _, end = self._consumer.get_watermark_offsets(self._place(at), cached=True)
            if end >= 0:
                del self._unverified[at]
                if end < start:
                    raise _ends_before(at, start)

    def _place(self, at: Position, offset: int = OFFSET_INVALID) -> TopicPartition:
        return TopicPartition(self._layout.prefix + at.topic, at.partition, offset)

    def _position(self, message: Message) -> Position:
        full_name, number = message.topic(), message.partition()
        assert full_name is not None
        assert number is not None
        return Position(full_name.removeprefix(self._layout.prefix), number)


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
