"""Fetch records through librdkafka in a thread; Faust handles the group.

aiokafka fetches in Python: at 100 events/s that took 15 % of a core, as much as ranking
(measured with py-spy). So Faust's consumer joins the group and commits, and stays paused; what
it was assigned is read by librdkafka's `assign`, which knows no group.

Whoever asks for other offsets starts a new *reading*: records of an earlier one that are still
on their way to the event loop are dropped there, never mixed in.

librdkafka delivers the records of a partition in order and leaves none out. Their offsets have
gaps, and aborted transactions are not delivered. Where the log no longer has the offset that is
asked for, it says so, and stops reading this partition until it is told where to go on.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, NamedTuple, Protocol

import msgspec
import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from contract.kafka.client import ClientConfig, consumer_config, take
from contract.kafka.records import Position, Received, received
from contract.process.settings import KafkaSettings
from contract.wire.topics import Layout

log = structlog.get_logger()

POLL_S = 0.05
"""How long a new reading may have to wait for the thread."""

MOST = 128
"""Records that are handed over at once."""

FETCH_BYTES = 65_536
"""Of one partition at a time, some 200 events. librdkafka hands over in the order of fetching, so
what it keeps ready of a busy partition is what the others wait for. Beside a user of 1,000
events/s their p99 was 620 ms with all that it likes to keep (measured on Tansu)."""

KEPT_READY = 16
"""Records that a partition may have waiting here and still be asked for more. librdkafka leaves out
of a request each partition that has as many, and sends no other before that one is answered. With
1, whatever came in the partitions just read waited for an event in another one: at 50 events/s in
four partitions 1.8 % of the events took 40 to 130 ms away from swaps of a bundle, 0.15 % with 16.
Beside a user of 1,000 events/s the p99 of the others was 526 ms with 1, 45 and 71 ms with 16 and
the bound below (`python -m benchmarks.serve --only hotkey`, Apache Kafka)."""

LONGEST_WAIT_MS = 50
"""How long the broker may hold back a request that leaves out a partition with a backlog."""

STATISTICS_MS = 500
"""How often `progress` is told; librdkafka tells it in its statistics alone."""


class Inbox(Protocol):
    """Receives the records."""

    def has_room(self, *, within_s: float) -> bool:
        """Wait until there is room for more, and return whether there is; the thread calls it."""
        ...

    def put(self, records: Sequence[Received]) -> None:
        """Take *records*; called on the event loop."""
        ...


class Progress(NamedTuple):
    """The state of one partition by the broker; offsets mean "next".

    The *end* is the last stable offset: what lies beyond belongs to open transactions. Without a
    leader nobody answers for the partition, and nobody here can do anything about it.
    """

    position: int
    end: int
    num_answers: int
    has_leader: bool = True


def fetch_config(kafka: KafkaSettings, *, group_id: str) -> ClientConfig:
    """Return the configuration of a consumer that only fetches; it never joins *group_id*."""
    return consumer_config(kafka, group_id=group_id) | {
        "auto.offset.reset": "error",
        "check.crcs": True,
        "statistics.interval.ms": STATISTICS_MS,
        "max.partition.fetch.bytes": FETCH_BYTES,
        "queued.min.messages": KEPT_READY,
        "fetch.wait.max.ms": min(LONGEST_WAIT_MS, kafka.fetch_max_wait_ms),
        "fetch.queue.backoff.ms": 2,  # the default would be a second's pause in each backlog
        "fetch.error.backoff.ms": 100,
        "socket.timeout.ms": 10_000,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1_000,
    }


class Fetch:
    """Hands records to *inbox*, on the running event loop, by partition in order of offset."""

    def __init__(
        self,
        config: dict[str, Any],
        layout: Layout,
        inbox: Inbox,
        *,
        on_lost: Callable[[Position], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Start the thread; *on_lost* is called on the event loop when the log lost an offset."""
        self._layout = layout
        self._inbox = inbox
        self._on_lost = on_lost
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._asked: SimpleQueue[tuple[int, Mapping[Position, int], bool]] = SimpleQueue()
        self._reading = 0
        self._num_sent = self._num_taken = 0
        self._handed_over = Event()
        self._is_over = False
        self.fetched: dict[Position, int] = {}
        """By partition, the offset after what was handed over."""
        self.progress: dict[Position, Progress] = {}
        self._config = config | {"stats_cb": self._note}
        self._consumer = Consumer(self._config)
        self._thread = Thread(target=self._run, name="fetch", daemon=True)
        self._thread.start()

    def read_from(self, offsets: Mapping[Position, int], *, is_anew: bool = False) -> None:
        """Read exactly the partitions in *offsets*, from there on.

        With *is_anew* by a new consumer: a topic that was created again begins with an older leader
        epoch than librdkafka has seen, and what it is told of such a topic it ignores for good.
        """
        self._reading += 1
        self.fetched = dict(offsets)
        self.progress = {}
        self._asked.put((self._reading, self.fetched.copy(), is_anew))

    async def close(self) -> None:
        """End the thread and leave the broker."""
        self._is_over = True
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        reading = 0
        try:
            while not self._is_over:
                reading = self._assign(reading)
                if self._is_loop_late():
                    self._handed_over.wait(POLL_S)
                elif self._inbox.has_room(within_s=POLL_S):
                    self._send(reading, take(self._consumer, MOST, within_s=POLL_S))
            self._consumer.close()
        except BaseException as error:  # noqa: BLE001 - the thread's outermost frame
            self._on_failure(error)

    def _is_loop_late(self) -> bool:
        """Return whether a whole poll is still on its way to the event loop."""
        self._handed_over.clear()
        return self._num_sent - self._num_taken >= MOST

    def _assign(self, reading: int) -> int:
        """Start the newest reading that was asked for; return which one goes on."""
        try:
            while True:
                reading, offsets, is_anew = self._asked.get_nowait()
                if is_anew:
                    self._consumer.close()
                    self._consumer = Consumer(self._config)
                self._consumer.assign(
                    [
                        TopicPartition(self._layout.prefix + at.topic, at.partition, offset)
                        for at, offset in offsets.items()
                    ]
                )
        except Empty:
            return reading

    def _send(self, reading: int, messages: Sequence[Message]) -> None:
        records = []
        for message in messages:
            if error := message.error():
                self._note_failure(reading, message, error)
            else:
                records.append(received(message, self._layout))
        if records:
            self._num_sent += len(records)
            self._loop.call_soon_threadsafe(self._hand_over, reading, records)

    def _note_failure(self, reading: int, message: Message, error: KafkaError) -> None:
        topic, partition = message.topic() or "", message.partition() or 0
        log.warning("fetch_failed", topic=topic, partition=partition, reason=str(error))
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - librdkafka's name
            at = Position(topic.removeprefix(self._layout.prefix), partition)
            self._loop.call_soon_threadsafe(self._report_lost, reading, at)

    def _report_lost(self, reading: int, at: Position) -> None:
        if reading == self._reading:
            self._on_lost(at)

    def _hand_over(self, reading: int, records: list[Received]) -> None:
        self._num_taken += len(records)
        self._handed_over.set()
        if reading != self._reading:
            return
        for record in records:
            self.fetched[record.at] = record.offset + 1
        self._inbox.put(records)

    def _note(self, statistics: str) -> None:
        said = _STATISTICS.decode(statistics)
        answers = {broker.nodeid: broker.rx for broker in said.brokers.values()}
        self.progress = {
            Position(name.removeprefix(self._layout.prefix), part.partition): Progress(
                part.next_offset, part.end, answers.get(part.broker, 0), part.broker >= 0
            )
            for name, topic in said.topics.items()
            for part in topic.partitions.values()
            if part.next_offset >= 0 and part.end >= 0
        }


class _Broker(msgspec.Struct):
    nodeid: int
    rx: int


class _Partition(msgspec.Struct):
    partition: int
    broker: int
    next_offset: int
    hi_offset: int
    ls_offset: int

    @property
    def end(self) -> int:
        """The last stable offset, or the end where the broker knows no transactions."""
        return self.ls_offset if self.ls_offset >= 0 else self.hi_offset


class _Topic(msgspec.Struct):
    partitions: dict[str, _Partition]


class _Statistics(msgspec.Struct):
    brokers: dict[str, _Broker] = {}
    topics: dict[str, _Topic] = {}


_STATISTICS = msgspec.json.Decoder(_Statistics)
