"""The outbox: everything that a process tells the world, acknowledged or raised.

Handing a record over only queues it. Once `deliver` or `settle` has returned, the broker has
acknowledged everything (acks=all), and whoever commits an offset after that has lost nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from contract.errors import BrokerUnavailable

Header = tuple[str, str | bytes | None]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to produce; *topic* is the full name, and partition -1 is the partitioner's."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int = -1
    headers: list[Header] = field(default_factory=list)


class Outbox:
    """One confluent-kafka producer, used by one thread at a time."""

    def __init__(self, producer: Producer, *, timeout_s: float = 35.0) -> None:
        self._producer = producer
        self._timeout_s = timeout_s
        self._errors: list[str] = []

    def deliver(self, records: Sequence[Outgoing]) -> list[int]:
        """Produce *records* and return their offsets, in their order, once acknowledged.

        Raises:
            BrokerUnavailable: one of them was refused, or not acknowledged in time.
        """
        offsets = [-1] * len(records)
        for index, record in enumerate(records):
            self._produce(record, offsets, index)
        self.settle()
        return offsets

    def send(self, record: Outgoing) -> None:
        """Hand *record* over; whether it arrived, `settle` tells.

        Raises:
            BrokerUnavailable: the producer refuses it.
        """
        self._produce(record, [-1], 0)

    def settle(self) -> None:
        """Wait until everything handed over is acknowledged.

        Raises:
            BrokerUnavailable: something was refused, or not acknowledged in time.
        """
        num_left = self._producer.flush(self._timeout_s)
        errors, self._errors = self._errors, []
        if num_left or errors:
            self._producer.purge()
            raise BrokerUnavailable(
                errors[0]
                if errors
                else f"{num_left} records unacknowledged after {self._timeout_s} s"
            )

    def _produce(self, record: Outgoing, offsets: list[int], index: int) -> None:
        on_delivery = _note(offsets, self._errors, index)
        while True:
            try:
                self._producer.produce(
                    record.topic,
                    key=record.key,
                    value=record.value,
                    partition=record.partition,
                    headers=record.headers,
                    on_delivery=on_delivery,
                )
            except BufferError:
                self._producer.poll(0.1)  # the queue is full: wait until some are gone
            except KafkaException as error:
                raise BrokerUnavailable(f"{record.topic}: {error}") from error
            else:
                self._producer.poll(0)
                return


def _note(
    offsets: list[int], errors: list[str], index: int
) -> Callable[[KafkaError | None, Message], None]:
    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            errors.append(f"{message.topic()}: {error.str()}")
        else:
            offsets[index] = message.offset() or 0

    return delivered
