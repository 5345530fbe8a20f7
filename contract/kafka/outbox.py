"""Produce records; return when all are acknowledged, raise if one is not.

`send` only queues. Once `PendingDelivery.wait`, `deliver` or `flush` has returned, everything it
stands for is acknowledged (acks=all), and an offset that is committed after that loses nothing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from contract.errors import BrokerUnavailable, NextwatchError
from contract.kafka.client import failure

Header = tuple[str, str | bytes | None]
_POLL_S = 0.1
_PAUSE_S = 0.005
_UNKNOWN = -1
_FAILED = -2


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to produce; *topic* is the full name, partition -1 lets the partitioner choose."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int = -1
    headers: list[Header] = field(default_factory=list)


class PendingDelivery:
    """Records that were sent together; `wait` returns their offsets once all are acknowledged.

    It adds itself to *failed* when a record fails, unless `wait` reports it, and the outbox starts
    a new list with each `flush`: what one flush has given up is not counted against the next.
    """

    __slots__ = ("_failed", "_num_known", "_offsets", "_wait", "error", "is_reported")

    def __init__(
        self,
        num_records: int,
        failed: "list[PendingDelivery]",
        wait: "Callable[[PendingDelivery], None]",
    ) -> None:
        self._offsets = [_UNKNOWN] * num_records
        self._num_known = 0
        self._failed = failed
        self._wait = wait
        self.is_reported = False
        self.error: NextwatchError | None = None

    def wait(self) -> list[int]:
        """Return the offsets of the records, in their order, once all are acknowledged.

        Raises:
            BrokerUnavailable: one of them was rejected, or not acknowledged in time.
            ContractError: one was rejected for good: a right is missing, or it is too large.
        """
        self.is_reported = True
        self._wait(self)
        return self._offsets

    def note(self, index: int, error: KafkaError | None, message: Message) -> None:
        """Note that record *index* was acknowledged or failed; any polling thread calls this."""
        if error is None:
            self._offsets[index] = message.offset() or 0
            return
        if self.error is None:
            self.error = failure(error, message.topic() or "")
            self._failed.append(self)
        self._offsets[index] = _FAILED

    def is_answered(self) -> bool:
        """Return whether the broker has answered all records; the waiting thread calls this."""
        offsets = self._offsets
        while self._num_known < len(offsets) and offsets[self._num_known] != _UNKNOWN:
            self._num_known += 1
        return self._num_known == len(offsets)

    @property
    def num_left(self) -> int:
        """How many records the broker has not answered yet."""
        return self._offsets.count(_UNKNOWN)


class Outbox:
    """One confluent-kafka producer; one thread may send while another waits.

    One thread polls at a time. A waiting thread does not notice the reports that another one takes
    before its own poll is over, a tenth of a second later.
    """

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
        self._failed: list[PendingDelivery] = []
        self._polling = Lock()

    def send(self, records: Sequence[Outgoing]) -> PendingDelivery:
        """Queue *records*, in their order; `wait` or `flush` waits for their acknowledgement.

        Raises:
            BrokerUnavailable: the producer rejects one.
            ContractError: the producer rejects one for good.
        """
        pending = PendingDelivery(len(records), self._failed, self._wait)
        for index, record in enumerate(records):
            self._produce(record, partial(pending.note, index))
        self._take_reports(0)
        return pending

    def deliver(self, records: Sequence[Outgoing]) -> list[int]:
        """Send *records* and return their offsets, in their order, once acknowledged.

        Raises:
            BrokerUnavailable: one of them was rejected, or not acknowledged in time.
            ContractError: one was rejected for good: a right is missing, or it is too large.
        """
        return self.send(records).wait()

    def flush(self) -> None:
        """Wait until everything that was sent is acknowledged.

        A failure that `wait` has raised is not raised again.

        Raises:
            BrokerUnavailable: something was rejected, or not acknowledged in time.
            ContractError: something was rejected for good.
        """
        num_left = self._producer.flush(self._timeout_s)
        failed, self._failed = self._failed, []
        error = next((pending.error for pending in failed if not pending.is_reported), None)
        self._raise_failure(error, num_left)

    def _wait(self, pending: PendingDelivery) -> None:
        deadline_s = self._monotonic() + self._timeout_s
        while not pending.is_answered() and self._monotonic() < deadline_s:
            with self._polling:
                if not pending.is_answered():
                    self._producer.poll(_POLL_S)
        self._raise_failure(pending.error, pending.num_left)

    def _take_reports(self, within_s: float) -> bool:
        """Poll, unless another thread does; return whether it was this one."""
        if not self._polling.acquire(blocking=False):
            return False
        try:
            self._producer.poll(within_s)
        finally:
            self._polling.release()
        return True

    def _raise_failure(self, error: NextwatchError | None, num_left: int) -> None:
        if num_left or error:
            self._producer.purge()
            late = f"{num_left} records unacknowledged after {self._timeout_s} s"
            raise error or BrokerUnavailable(late)

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
                if not self._take_reports(_POLL_S):  # the queue is full: wait until some are gone
                    time.sleep(_PAUSE_S)
            except KafkaException as error:
                raise failure(error.args[0], record.topic) from error
            else:
                return
