"""Read all partitions of some topics without a consumer group: to the end, then follow.

Partitions are assigned, not subscribed to, which saves the seconds that joining a group takes.
The end of a partition is the one that a fetch response tells (librdkafka's end-of-partition): an
end that is asked for beforehand can be too low by the time that it is reached, and it may be the
offset of a transaction marker, which no record has.

What goes wrong has one of three ends, whoever reads:

* librdkafka repeats what is retriable, and what happens to its own connections. `read` gives up
  after the patience, with `TopicSilentError`.
* What stays until a person mends it is a `ContractError` with the remedy.
* Any other error that a broker answers with is a `BrokerUnavailable`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from time import monotonic

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    Message,
    TopicPartition,
)

from contract.errors import BrokerUnavailable
from contract.kafka.client import failure, is_retriable, partitions_of, retried, take
from contract.kafka.records import Position
from contract.wire.topics import Layout

AT_ONCE = 500
_POLL_S = 0.2
_OUT_OF_RANGE = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - librdkafka's own codes are spelt so
        KafkaError.OFFSET_OUT_OF_RANGE,
    }
)

OnError = Callable[[Position, KafkaError], bool]
"""Told of every error but the end of a partition; returns whether it has dealt with it."""


class TopicSilentError(BrokerUnavailable):
    """A topic gave neither records nor its end before the timeout."""


def is_out_of_range(error: KafkaError) -> bool:
    """Return whether the offset is out of range; needs ``auto.offset.reset=error``."""
    return error.code() in _OUT_OF_RANGE


class TopicReader:
    """Reads partitions in one thread; closing it closes the *consumer*.

    The consumer must be told the end of a partition (`contract.kafka.client.read_to_end`) where
    `unread` or `read` is used. *on_error* comes before the errors of this module.
    """

    def __init__(
        self,
        consumer: Consumer,
        layout: Layout,
        *,
        patience_s: float = 30.0,
        monotonic: Callable[[], float] = monotonic,
        on_error: OnError = lambda _at, _error: False,
    ) -> None:
        self._consumer = consumer
        self._prefix = layout.prefix
        self._patience_s = patience_s
        self._monotonic = monotonic
        self._on_error = on_error
        self._num_heard = 0
        self._until: Mapping[Position, int] = {}
        self._start: Mapping[Position, int] = {}
        self.unread: frozenset[Position] = frozenset()
        """The partitions whose end was not reached since they were assigned."""
        self.ends: dict[Position, int] = {}
        """By partition the offset of the end that was reached first since they were assigned."""
        self.hidden: dict[Position, int] = {}
        """By partition how many offsets lay beyond that end: those of open transactions."""
        self.newest_ends: dict[Position, int] = {}
        """By partition the offset of the end that was reached last."""

    def partitions(self, topics: Iterable[str], *, within_s: float) -> list[Position]:
        """Return all partitions of *topics*, which are given by their names in the contract.

        Raises:
            BrokerUnavailable: the broker does not answer.
            ContractError: a topic does not exist.
        """
        return [
            Position(topic, number)
            for topic in topics
            for number in partitions_of(self._consumer, self._prefix + topic, within_s=within_s)
        ]

    def assign(self, start: Mapping[Position, int]) -> None:
        """Read the partitions in *start*, from their offsets on, and no others."""
        self.unread, self.ends, self.hidden, self._until = frozenset(start), {}, {}, {}
        self._start = dict(start)
        self._consumer.assign([self.place(at, offset) for at, offset in start.items()])

    def unassign(self) -> None:
        """Stop reading all partitions."""
        self._consumer.unassign()

    def seek(self, at: Position, offset: int) -> None:
        """Go on at *offset*, also after an error that has made librdkafka stop reading *at*."""
        self._consumer.incremental_unassign([self.place(at)])
        self._consumer.incremental_assign([self.place(at, offset)])

    def poll(self, most: int = AT_ONCE, *, within_s: float) -> list[Message]:
        """Return up to *most* records as soon as there is one, none after *within_s* seconds.

        Raises:
            BrokerUnavailable: the broker answered with an error.
            ContractError: it answered with one that stays until a person mends something.
        """
        messages = take(self._consumer, most, within_s=within_s)
        records = [message for message in messages if self._is_record(message)]
        self._num_heard += len(records)
        return records

    def read(
        self,
        *,
        until: Mapping[Position, int] = {},
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Message]:
        """Yield records until every partition was at its end once, or *should_stop*.

        A partition in *until* counts as read with the first record at its offset or beyond, too.
        What comes to a partition between its end and the last one of the others is yielded.

        Raises:
            TopicSilentError: nothing came for the whole of the patience.
            BrokerUnavailable: the broker answered with an error.
            ContractError: it answered with one that stays until a person mends something.
        """
        self._until = until
        heard_s, num_heard = self._monotonic(), self._num_heard
        while self.unread and not should_stop():
            yield from self.poll(within_s=_POLL_S)
            if self._num_heard > num_heard:
                heard_s, num_heard = self._monotonic(), self._num_heard
            elif self._monotonic() - heard_s > self._patience_s:
                names = ", ".join(sorted({self._prefix + at.topic for at in self.unread}))
                raise TopicSilentError(f"{names}: silent for {self._patience_s:g} s")

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def cached_end(self, at: Position) -> int:
        """Return the end of *at* from the newest fetch response; below 0 while unknown."""
        _, end = self._consumer.get_watermark_offsets(self.place(at), cached=True)
        return int(end)

    def num_behind(self, next_offsets: Mapping[Position, int]) -> dict[Position, int]:
        """Return how many offsets of each partition lie before its end, as far as it is known.

        *next_offsets* are those after what was done with. A partition whose end was reached, and
        has not moved since, has none, whatever marks of transactions lie before it.
        """
        found = {}
        for at, start in self._start.items():
            end, done = self.cached_end(at), next_offsets.get(at, max(0, start))
            if end >= 0:
                is_at_end = at not in self.unread and self.newest_ends.get(at, -1) >= end
                found[at] = 0 if is_at_end else max(0, end - done)
        return found

    def first_offset(self, at: Position, *, within_s: float) -> int:
        """Return the offset of the first record that *at* still has.

        Raises:
            BrokerUnavailable: the broker does not answer.
        """
        first, _ = retried(
            lambda left_s: self._consumer.get_watermark_offsets(self.place(at), timeout=left_s),
            within_s=within_s,
        )
        return int(first)

    def place(self, at: Position, offset: int = OFFSET_INVALID) -> TopicPartition:
        """Return *at* as a partition of confluent-kafka."""
        return TopicPartition(self._prefix + at.topic, at.partition, offset)

    def position(self, message: Message) -> Position:
        """Return the partition of *message*, which is a record or an error."""
        topic, partition = message.topic(), message.partition()
        return Position((topic or "").removeprefix(self._prefix), partition or 0)

    def _note_record(self, message: Message) -> None:
        at, offset = self.position(message), message.offset() or 0
        if offset >= self._until.get(at, offset + 1):
            self._note_end(at, offset)

    def _note_end(self, at: Position, offset: int) -> None:
        self._num_heard += 1
        self.newest_ends[at] = offset
        if at in self.unread:
            self.ends[at] = offset
            self.hidden[at] = max(0, self.cached_end(at) - offset)
            self.unread -= {at}

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            if self._until:
                self._note_record(message)
            return True
        at = self.position(message)
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's name
            self._note_end(at, message.offset() or 0)
        elif not self._on_error(at, error) and is_lasting(error):
            raise failure(error, message.topic() or "")
        return False


def is_lasting(error: KafkaError) -> bool:
    """Return whether librdkafka does not retry after *error*; its own codes are below zero."""
    return error.fatal() or (error.code() > 0 and not is_retriable(error))
