"""Send a record and wait for its acknowledgement, without a thread for each request.

One thread polls the producer. A record is acknowledged by all in-sync replicas (acks=all) before
`send` returns. One that is not acknowledged in time may still be in the log: whoever gets the
error sends the same event again, with the same id.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Event, Thread

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from contract.errors import BrokerUnavailable, NextwatchError
from contract.kafka.client import ClientConfig, failure
from contract.kafka.outbox import Outgoing

MAX_WAITING = 10_000
MAX_WAITING_KIB = 65_536
_POLL_S = 0.1
_FLUSH_S = 1.0
_RECONNECT_MS = 1_000


def sending_bounds(*, ack_within_s: float) -> ClientConfig:
    """Return the settings of a producer that gives each record up after *ack_within_s*.

    What waits for a broker that is away is bounded, and its return is noticed within a second.
    """
    return {
        "delivery.timeout.ms": round(ack_within_s * 1_000),
        "queue.buffering.max.messages": MAX_WAITING,
        "queue.buffering.max.kbytes": MAX_WAITING_KIB,
        "reconnect.backoff.max.ms": _RECONNECT_MS,
    }


class EventSender:
    """Sends records of one event loop; *on_failure* is told of what only a new start mends."""

    def __init__(
        self,
        producer: Producer,
        *,
        ack_within_s: float,
        on_failure: Callable[[NextwatchError], None],
    ) -> None:
        self._producer = producer
        self._ack_within_s = ack_within_s
        self._on_failure = on_failure
        self._is_over = Event()
        self._thread = Thread(target=self._poll, name="gateway-acks", daemon=True)

    def start(self) -> None:
        """Begin to take acknowledgements."""
        self._thread.start()

    def stop(self) -> None:
        """Wait a moment for what is still unacknowledged; nobody waits for it any more."""
        self._producer.flush(_FLUSH_S)
        self._is_over.set()
        self._thread.join(_FLUSH_S)

    async def send(self, record: Outgoing) -> None:
        """Send *record* and return once it is acknowledged.

        Raises:
            BrokerUnavailable: it was not in time, or too much waits already.
            ContractError: the broker rejects it for good: a right is missing.
        """
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[None] = loop.create_future()
        self._produce(record, partial(self._note, loop, acknowledged))
        try:
            async with asyncio.timeout(self._ack_within_s):
                await acknowledged
        except TimeoutError:
            raise BrokerUnavailable(
                f"no acknowledgement from Kafka within {self._ack_within_s:g} s"
            ) from None

    def _produce(
        self, record: Outgoing, on_delivery: Callable[[KafkaError | None, Message], None]
    ) -> None:
        try:
            self._producer.produce(
                record.topic,
                key=record.key,
                value=record.value,
                headers=record.headers,
                on_delivery=on_delivery,
            )
        except BufferError:
            raise BrokerUnavailable(f"{MAX_WAITING:,} records wait for Kafka already") from None
        except KafkaException as raised:
            raise self._noted(raised.args[0], record.topic) from raised

    def _note(
        self,
        loop: asyncio.AbstractEventLoop,
        acknowledged: "asyncio.Future[None]",
        error: KafkaError | None,
        message: Message,
    ) -> None:
        """Tell the loop that waits what the broker said of a record; the polling thread calls."""
        reason = self._noted(error, message.topic() or "") if error is not None else None
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_settle, acknowledged, reason)

    def _noted(self, error: KafkaError, topic: str) -> NextwatchError:
        reason = failure(error, topic)
        if error.fatal():  # the producer takes nothing any more
            self._on_failure(reason)
        return reason

    def _poll(self) -> None:
        while not self._is_over.is_set():
            self._producer.poll(_POLL_S)


def _settle(acknowledged: "asyncio.Future[None]", error: NextwatchError | None) -> None:
    if acknowledged.done():  # nobody waits any more
        return
    if error is None:
        acknowledged.set_result(None)
    else:
        acknowledged.set_exception(error)
