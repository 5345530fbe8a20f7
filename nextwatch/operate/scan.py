"""Reading whole topics for a person: every partition, from its beginning to where it ends now.

The end of a partition is the one that fetch responses tell (librdkafka's end-of-partition),
never the one of ListOffsets, which some brokers answer too low. Records are handed on one by one
and none is kept, so a topic may be as long as it likes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    Message,
    TopicPartition,
)

from contract.errors import BrokerUnavailable, ContractError
from contract.kafka import (
    consumer_config,
    failure,
    is_retriable,
    partitions_of,
    read_to_end,
    take,
)
from contract.records import Position, Received, received
from contract.settings import KafkaSettings
from nextwatch.acls import operator_group

_QUEUE_KB = 16_384
_AT_ONCE = 500
_ENDS = (
    KafkaError._PARTITION_EOF,  # noqa: SLF001
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - librdkafka's own codes are spelt so
    KafkaError.OFFSET_OUT_OF_RANGE,
)

Ends = dict[Position, int]
"""Of each partition, the offset behind its last record."""


class Scan:
    """Reads topics by their contract names; *on_progress* is told how many records it has read."""

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        monotonic: Callable[[], float],
        on_progress: Callable[[int], None] = lambda _count: None,
        patience_s: float = 15.0,
        group: str = "",
        is_committed: bool = True,
    ) -> None:
        """Read by the operator's consumer group, which is never joined, or by *group*.

        Unless *is_committed*, records of transactions that are open, or were aborted, are read, too.
        """
        self._kafka = kafka
        self._monotonic = monotonic
        self._on_progress = on_progress
        self._patience_s = patience_s
        self._isolation = "read_committed" if is_committed else "read_uncommitted"
        self._group = group or operator_group(kafka.layout)
        self._num_read = 0
        self.ends: Ends = {}
        self.unsettled: Ends = {}
        """Of each partition that ends in an open transaction, how many offsets that hides."""

    def read(self, topics: Sequence[str], until: Mapping[Position, int] = {}) -> Iterator[Received]:
        """Yield every record of *topics*; of partitions in *until* only what lies before it.

        When it is through, `ends` has where each partition ended. Records of transactions that are
        open, or were aborted, are left out; where one is open, `unsettled` says so.

        Raises:
            BrokerUnavailable: nobody answers, or no longer.
            ContractError: a topic does not exist.
        """
        self.ends, self.unsettled = {}, {}
        with self._consumer() as consumer:
            open_partitions = set(self._assign(consumer, topics, OFFSET_BEGINNING))
            while open_partitions:
                for message in self._polled(consumer):
                    at, offset = self._at(message), message.offset() or 0
                    if at not in open_partitions:
                        continue
                    if _is_end(message) or offset >= until.get(at, offset + 1):
                        open_partitions.discard(at)
                        self.ends[at] = offset
                        self._note_end(consumer, at, offset, until)
                    else:
                        self._count()
                        yield received(message, self._kafka.layout)

    def one(self, at: Position, offset: int) -> Received | None:
        """Return the record at *offset*, None when there is none (any longer).

        Raises:
            BrokerUnavailable: nobody answers.
            ContractError: the topic does not exist.
        """
        with self._consumer(after_loss="error") as consumer:
            if at not in self._places(consumer, [at.topic]):
                return None
            place = TopicPartition(self._kafka.layout.prefix + at.topic, at.partition, offset)
            consumer.assign([place])
            waited_since_s = self._monotonic()
            while self._monotonic() - waited_since_s < self._patience_s:
                for message in take(consumer, 1, within_s=0.1):
                    if not _is_passing(message):
                        return self._if_at(offset, message)
                _, end = consumer.get_watermark_offsets(place, cached=True)
                if 0 <= end <= offset:  # not every broker answers a fetch from behind the end
                    return None
        raise self._silent()

    def partitions(self, topic: str) -> list[Position]:
        """Return every partition of *topic*.

        Raises:
            BrokerUnavailable: nobody answers.
            ContractError: the topic does not exist.
        """
        with self._consumer() as consumer:
            return self._places(consumer, [topic])

    @contextmanager
    def from_now_on(self, topic: str) -> Iterator["Ear"]:
        """Give an ear that hears what comes to *topic* after this moment.

        Raises:
            BrokerUnavailable: nobody answers.
            ContractError: the topic does not exist.
        """
        with self._consumer() as consumer:
            unread = set(self._assign(consumer, [topic], OFFSET_END))
            while unread:  # the end that was assigned may lie too low: read on to the true one
                unread -= {self._at(m) for m in self._polled(consumer) if _is_end(m)}
            yield Ear(consumer, self._kafka, self._monotonic)

    @contextmanager
    def _consumer(self, *, after_loss: str = "earliest") -> Iterator[Consumer]:
        """Give a consumer; *after_loss* is for records that retention takes while it reads."""
        config = read_to_end(consumer_config(self._kafka, group_id=self._group)) | {
            "auto.offset.reset": after_loss,
            "isolation.level": self._isolation,
            "queued.max.messages.kbytes": _QUEUE_KB,
            "log_level": 0,
        }
        consumer = Consumer(config)
        try:
            yield consumer
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer, topics: Sequence[str], offset: int) -> list[Position]:
        places = self._places(consumer, topics)
        prefix = self._kafka.layout.prefix
        consumer.assign([TopicPartition(prefix + at.topic, at.partition, offset) for at in places])
        return places

    def _places(self, consumer: Consumer, topics: Sequence[str]) -> list[Position]:
        prefix = self._kafka.layout.prefix
        try:
            return [
                Position(topic, number)
                for topic in topics
                for number in partitions_of(consumer, prefix + topic, within_s=self._patience_s)
            ]
        except BrokerUnavailable as error:
            raise self._silent() from error
        except ContractError as error:
            raise ContractError(
                f"{error}; NEXTWATCH_KAFKA_TOPIC_PREFIX names the prefix of the topics at "
                f"{self._kafka.bootstrap_servers}"
            ) from error

    def _polled(self, consumer: Consumer) -> list[Message]:
        """Return records and ends, at least one."""
        waited_since_s = self._monotonic()
        while self._monotonic() - waited_since_s < self._patience_s:
            messages = [m for m in take(consumer, _AT_ONCE, within_s=0.2) if not _is_passing(m)]
            if messages:
                return messages
        raise self._silent()

    def _note_end(
        self, consumer: Consumer, at: Position, offset: int, until: Mapping[Position, int]
    ) -> None:
        place = TopicPartition(self._kafka.layout.prefix + at.topic, at.partition)
        _, end = consumer.get_watermark_offsets(place, cached=True)
        if at not in until and end > offset:
            self.unsettled[at] = end - offset

    def _if_at(self, offset: int, message: Message) -> Received | None:
        if _is_end(message) or message.offset() != offset:
            return None
        return received(message, self._kafka.layout)

    def _at(self, message: Message) -> Position:
        topic, partition = message.topic(), message.partition()
        assert topic is not None
        assert partition is not None
        return Position(topic.removeprefix(self._kafka.layout.prefix), partition)

    def _count(self) -> None:
        self._num_read += 1
        if self._num_read % 1_000 == 0:
            self._on_progress(self._num_read)

    def _silent(self) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"no Kafka broker answered at {self._kafka.bootstrap_servers} for {self._patience_s:g} s: "
            "start it, or name another by NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS"
        )


class Ear:
    """Hears records as they come; `Scan.from_now_on` gives one."""

    def __init__(
        self, consumer: Consumer, kafka: KafkaSettings, monotonic: Callable[[], float]
    ) -> None:
        self._consumer = consumer
        self._layout = kafka.layout
        self._monotonic = monotonic

    def hears(self, is_it: Callable[[Received], bool], *, within_s: float) -> bool:
        """Return whether a record for which *is_it* came within *within_s* seconds."""
        deadline_s = self._monotonic() + within_s
        while (left_s := deadline_s - self._monotonic()) > 0:
            for message in take(self._consumer, _AT_ONCE, within_s=min(left_s, 0.2)):
                if message.error() is None and is_it(received(message, self._layout)):
                    return True
        return False


def _is_end(message: Message) -> bool:
    """Return whether *message* is no record, but says that there is none at its offset."""
    error = message.error()
    return error is not None and error.code() in _ENDS


def _is_passing(message: Message) -> bool:
    """Return whether it is an error that librdkafka mends by itself; raise what it cannot."""
    error = message.error()
    if error is None or error.code() in _ENDS:
        return False
    if not is_retriable(error):
        raise failure(error, message.topic() or "")
    return True
