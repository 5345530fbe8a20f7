"""Everything a micro-batch says to the world, acknowledged or raised.

`deliver` returns only when the broker has acknowledged every record (acks=all); whoever
commits an offset after it has lost nothing.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from contract.errors import BrokerUnavailable
from streams.records import Outgoing

OnDelivery = Callable[[KafkaError | None, Message], None]


class Delivery(Protocol):
    """What the batch processor needs of an outbox."""

    def deliver(self, records: Sequence[Outgoing]) -> list[int]:
        """Produce *records* and return their offsets, in their order, once acknowledged."""
        ...


class Outbox:
    """One confluent-kafka producer, used by one thread at a time."""

    def __init__(self, producer: Producer, *, timeout_s: float = 30.0) -> None:
        self._producer = producer
        self._timeout_s = timeout_s

    def deliver(self, records: Sequence[Outgoing]) -> list[int]:
        """Produce *records* and return their offsets, in their order, once acknowledged.

        Raises:
            BrokerUnavailable: one of them was refused, or not acknowledged in time.
        """
        offsets = [-1] * len(records)
        errors: list[str] = []
        for index, record in enumerate(records):
            self._produce(record, _note(offsets, errors, index))
        left = self._producer.flush(self._timeout_s)
        if left or errors:
            self._producer.purge()
            why = (
                errors[0] if errors else f"{left} records unacknowledged after {self._timeout_s} s"
            )
            raise BrokerUnavailable(why)
        return offsets

    def _produce(self, record: Outgoing, on_delivery: OnDelivery) -> None:
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
                self._producer.poll(0.1)
            except KafkaException as error:
                raise BrokerUnavailable(str(error)) from error
            else:
                self._producer.poll(0)
                return


def _note(offsets: list[int], errors: list[str], index: int) -> OnDelivery:
    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            errors.append(f"{message.topic()}: {error.str()}")
        else:
            offsets[index] = message.offset() or 0

    return delivered
