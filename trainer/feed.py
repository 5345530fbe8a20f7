"""The feed: all partitions of the topics, from where the checkpoint stands.

It is no member of a group and commits nothing: offsets live in the checkpoint. One
process reads all partitions. Those that are added to a topic later are read after a restart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from contract.errors import BrokerUnavailable, ContractError
from contract.kafka import ClientConfig, consumer_config
from contract.settings import KafkaSettings
from contract.topics import Layout, Topic
from trainer.checkpoint import Offsets

log = structlog.get_logger()

GROUP_ID = "nextwatch-trainer"
_FETCH_WAIT_MS = 100  # learning is paced in seconds: fewer fetches leave the cores to serving
_TIMEOUT_S = 10.0
_OUT_OF_RANGE = (
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - librdkafka's own codes are spelt so
    KafkaError.OFFSET_OUT_OF_RANGE,
)


class BrokerLostRecordsError(ContractError):
    """The broker does not have the records that the checkpoint stands at."""


@dataclass(frozen=True, slots=True)
class Received:
    """A record that came in; *topic* is the contract's name, *ingested_at_ms* is -1 for none."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    ingested_at_ms: int = -1
    headers: tuple[tuple[str, bytes | None], ...] = ()


def feed_config(settings: KafkaSettings) -> ClientConfig:
    """Return the configuration of the feed's consumer."""
    return consumer_config(settings, group_id=GROUP_ID) | {
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": max(settings.fetch_max_wait_ms, _FETCH_WAIT_MS),
    }


class Feed:
    """All partitions of some topics, from given offsets on."""

    def __init__(self, consumer: Consumer, layout: Layout) -> None:
        self._consumer = consumer
        self._layout = layout
        self._topics: dict[str, str] = {}
        self._unread: set[tuple[str, int]] = set()
        self._unverified: dict[tuple[str, int], int] = {}
        self.next_offsets: Offsets = {}

    def open(self, topics: Sequence[Topic], offsets: Mapping[str, Mapping[int, int]]) -> None:
        """Read *topics*, each partition from its offset in *offsets*, or from its beginning.

        May be called again: what has been read since goes on from where it stands.

        Raises:
            BrokerUnavailable: the broker does not answer.
            ContractError: a topic does not exist.
        """
        partitions: list[TopicPartition] = []
        for topic in topics:
            full_name = self._layout.name(topic)
            self._topics[full_name] = topic.name
            known = {**offsets.get(topic.name, {}), **self.next_offsets.get(topic.name, {})}
            for number in self._partitions(full_name):
                if number in known:
                    self._unverified[topic.name, number] = known[number]
                    self.next_offsets.setdefault(topic.name, {})[number] = known[number]
                partitions.append(
                    TopicPartition(full_name, number, known.get(number, OFFSET_BEGINNING))
                )
        self._unread = {(self._topics[place.topic], place.partition) for place in partitions}
        self._consumer.assign(partitions)

    def poll(self, *, most: int, timeout_s: float) -> list[Received]:
        """Return up to *most* records; waits up to *timeout_s* for that many.

        Raises:
            BrokerUnavailable: the broker refused for good.
            BrokerLostRecordsError: a partition ends before the offset it was to be read from.
        """
        messages = self._consumer.consume(most, timeout_s)
        records = [self._received(message) for message in messages if self._is_record(message)]
        for record in records:
            self.next_offsets.setdefault(record.topic, {})[record.partition] = record.offset + 1
        if self._unverified:
            self._verify()
        return records

    def has_read(self, topics: Sequence[Topic]) -> bool:
        """Return whether *topics* were read to their ends at least once since `open`."""
        names = {topic.name for topic in topics}
        return not any(name in names for name, _ in self._unread)

    @property
    def is_verified(self) -> bool:
        """Whether every partition is known to reach to where reading it started."""
        return not self._unverified

    def forget(self) -> None:
        """Forget every offset: `open` reads from the beginning then."""
        self.next_offsets = {}
        self._unverified = {}

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _partitions(self, full_name: str) -> list[int]:
        try:
            metadata = self._consumer.list_topics(full_name, timeout=_TIMEOUT_S)
        except KafkaException as error:
            raise BrokerUnavailable(str(error)) from error
        topic = metadata.topics.get(full_name)
        if topic is None or topic.error is not None:
            raise ContractError(f"there is no topic {full_name}: create it with `nextwatch topics`")
        return sorted(topic.partitions)

    def _received(self, message: Message) -> Received:
        full_name, number = _place(message)
        kind, timestamp_ms = message.timestamp()
        offset = message.offset()
        assert offset is not None
        return Received(
            topic=self._topics[full_name],
            partition=number,
            offset=offset,
            key=_bytes(message.key()),
            value=_bytes(message.value()),
            ingested_at_ms=timestamp_ms if kind else -1,
            headers=_headers(message),
        )

    def _is_record(self, message: Message) -> bool:
        """Return whether it is a record; what else librdkafka says is dealt with here."""
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            full_name, number = _place(message)
            self._unread.discard((self._topics[full_name], number))
        elif error.code() in _OUT_OF_RANGE:
            self._go_to_what_is_left(message)
        elif error.fatal() or not error.retriable():
            raise BrokerUnavailable(f"{error.name()}: {error.str()}")
        else:
            log.warning("fetch_failed", error=error.name(), topic=message.topic())
        return False

    def _go_to_what_is_left(self, message: Message) -> None:
        """Retention deleted records that were not learned from: go on with the first one left."""
        full_name, number = _place(message)
        name = self._topics[full_name]
        place = TopicPartition(full_name, number)
        first, _ = self._consumer.get_watermark_offsets(place, timeout=_TIMEOUT_S)
        wanted = self.next_offsets.get(name, {}).get(number, 0)
        if first < wanted:
            raise _lost(name, number, wanted)
        log.warning("records_expired", topic=name, partition=number, wanted=wanted, first=first)
        self._unverified.pop((name, number), None)
        self._consumer.seek(TopicPartition(full_name, number, first))

    def _verify(self) -> None:
        """Compare where reading started with the end of the log, once a fetch has told it.

        The end that a fetch tells is right everywhere; the one that ListOffsets tells is not.
        """
        for (name, number), start in list(self._unverified.items()):
            place = TopicPartition(self._full_name(name), number)
            _, end = self._consumer.get_watermark_offsets(place, cached=True)
            if end >= 0:
                del self._unverified[name, number]
                if end < start:
                    raise _lost(name, number, start)

    def _full_name(self, name: str) -> str:
        return next(full_name for full_name, known in self._topics.items() if known == name)


def _place(message: Message) -> tuple[str, int]:
    full_name, number = message.topic(), message.partition()
    assert full_name is not None
    assert number is not None
    return full_name, number


def _headers(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    given = message.headers() or []
    pairs = given.items() if isinstance(given, dict) else given
    return tuple((name, _bytes(data)) for name, data in pairs)


def _bytes(data: str | bytes | None) -> bytes | None:
    return data.encode() if isinstance(data, str) else data


def _lost(name: str, number: int, wanted: int) -> BrokerLostRecordsError:
    return BrokerLostRecordsError(
        f"the broker has lost records: {name}[{number}] ends before offset {wanted}, where the "
        "checkpoint stands. Move NEXTWATCH_TRAINER_CHECKPOINT_DIR away to start over, or set "
        "NEXTWATCH_TRAINER_AFTER_BROKER_LOSS=continue to keep what was learned and read what "
        "the broker has from its beginning"
    )
