"""The outbox: everything that a process tells the world, acknowledged or raised.

Handing a record over only queues it. Once `deliver`, `wait` or `settle` has returned, the
broker has acknowledged everything (acks=all), and whoever commits an offset after that has
lost nothing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from contract.errors import BrokerUnavailable, NextwatchError
from contract.kafka import failure

Header = tuple[str, str | bytes | None]
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to produce; *topic* is the full name, and partition -1 is the partitioner's."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int = -1
    headers: list[Header] = field(default_factory=list)


class Shipment:
    """Records that were handed over together; `Outbox.wait` tells what became of them."""

    def __init__(self, num_records: int) -> None:
        self.offsets = [-1] * num_records
        self.errors: list[NextwatchError] = []
        self._reports: list[int] = []  # appended to by any thread that lets the producer report

    @property
    def num_left(self) -> int:
        """How many records nothing has been heard of yet."""
        return len(self.offsets) - len(self._reports)

    def note(self, index: int) -> Callable[[KafkaError | None, Message], None]:
        """Return what the producer calls when record *index* has arrived, or never will."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.errors.append(failure(error, message.topic() or ""))
            else:
                self.offsets[index] = message.offset() or 0
            self._reports.append(index)

        return delivered


class Outbox:
    """One confluent-kafka producer; one thread may ship while another waits."""

    def __init__(
        self,
        producer: Producer,
        *,
        timeout_s: float = 35.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._producer = producer
        self._timeout_s = timeout_s
        self._monotonic = monotonic
        self._sent = Shipment(0)

    def deliver(self, records: Sequence[Outgoing]) -> list[int]:
        """Produce *records* and return their offsets, in their order, once acknowledged.

        Raises:
            BrokerUnavailable: one of them was refused, or not acknowledged in time.
            ContractError: one was refused for good: a right is missing, or it is too large.
        """
        return self.wait(self.ship(records))

    def ship(self, records: Sequence[Outgoing]) -> Shipment:
        """Hand *records* over, in their order; whether they arrived, `wait` tells.

        Raises:
            BrokerUnavailable: the producer refuses one.
        """
        shipment = Shipment(len(records))
        for index, record in enumerate(records):
            self._produce(record, shipment.note(index))
        return shipment

    def wait(self, shipment: Shipment) -> list[int]:
        """Wait until *shipment* is acknowledged and return the offsets of its records.

        Raises:
            BrokerUnavailable: something in it was refused, or not acknowledged in time.
        """
        deadline_s = self._monotonic() + self._timeout_s
        while shipment.num_left and self._monotonic() < deadline_s:
            self._producer.poll(_POLL_S)
        self._raise_failures(shipment.errors, shipment.num_left)
        return shipment.offsets

    def send(self, record: Outgoing) -> None:
        """Hand *record* over; whether it arrived, `settle` tells.

        Raises:
            BrokerUnavailable: the producer refuses it.
        """
        self._sent.offsets.append(-1)
        self._produce(record, self._sent.note(len(self._sent.offsets) - 1))
        self._producer.poll(0)

    def settle(self) -> None:
        """Wait until everything that was sent is acknowledged.

        Raises:
            BrokerUnavailable: something was refused, or not acknowledged in time.
        """
        num_left = self._producer.flush(self._timeout_s)
        errors, self._sent = self._sent.errors, Shipment(0)
        self._raise_failures(errors, num_left)

    def _raise_failures(self, errors: Sequence[NextwatchError], num_left: int) -> None:
        if num_left or errors:
            self._producer.purge()
            late = f"{num_left} records unacknowledged after {self._timeout_s} s"
            raise errors[0] if errors else BrokerUnavailable(late)

    def _produce(
        self, record: Outgoing, on_delivery: Callable[[KafkaError | None, Message], None]
    ) -> None:
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
                raise failure(error.args[0], record.topic) from error
            else:
                return
