"""Record which events were accepted and answered, and what the changelog held meanwhile.

Two threads: one produces the flow at a steady rate and repeats what the broker did not accept,
the other reads recommendations and changelog from the beginning. Times are seconds of
`time.monotonic`. The other threads look at copies, which are made in one step.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from queue import SimpleQueue
from time import monotonic
from uuid import uuid4

import msgspec
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from benchmarks.faults.flow import Delivery, Flow
from contract.kafka.client import consumer_config, producer_config, take
from contract.process.settings import KafkaSettings
from contract.wire.events import Search, Watch, encode
from contract.wire.topics import RECOMMENDATIONS, SEARCH_EVENTS, WATCH_EVENTS, WINDOWS
from models.history import codec as history_codec
from models.history.history import WindowPolicy, merge

_BACKLOG = 20_000
_EVERY_S = 0.01
_QUIET = {"log_level": 1}  # that connections break is the point


class NotedAnswer(msgspec.Struct, frozen=True):
    """The fields of a recommendation that the ledger keeps."""

    recommendation_id: str
    caused_by: list[str]
    bundle_id: str | None
    degraded: list[str] = []


class FaultLedger:
    """Produces the events of one stack and records its answers and windows."""

    def __init__(self, kafka: KafkaSettings, flow: Flow, *, rate: float) -> None:
        self._kafka = kafka
        self._deliveries = iter(flow)
        self._rate = rate
        self._is_over = threading.Event()
        self._is_fed = threading.Event()
        self._refused: list[Delivery] = []
        self._again: SimpleQueue[str] = SimpleQueue()
        self._extra = 0
        self._produced: list[tuple[str, float]] = []
        self.events: dict[str, Watch | Search] = {}
        self.produced_s: dict[str, float] = {}
        self.partition_of: dict[str, int] = {}
        self.num_deliveries = 0
        self.answered_s: dict[str, float] = {}
        self.answered_by: dict[str, set[tuple[str, str | None]]] = defaultdict(set)
        self.counts: Counter[str] = Counter()
        self.windows_of: Counter[int] = Counter()  # by partition
        self.whole_answer_s = 0.0
        self._windows: dict[bytes, bytes] = {}
        self._failure: BaseException | None = None
        self._feeder = threading.Thread(target=self._guarded, args=(self._feed,), name="feeder")
        self._reader = threading.Thread(target=self._guarded, args=(self._read,), name="reader")

    def start(self) -> None:
        """Begin to produce and to read."""
        self._reader.start()
        self._feeder.start()

    def burst(self, num_deliveries: int) -> None:
        """Produce that many more at once, beside the steady flow."""
        self._extra += num_deliveries

    def send_again(self, event_ids: Collection[str]) -> None:
        """Produce once more the events whose records were deleted before anybody read them."""
        for event_id in event_ids:
            self._again.put(event_id)

    def stop_feeding(self) -> None:
        """Produce no more; returns when the broker has accepted everything produced."""
        self._is_fed.set()
        self._feeder.join()
        self.check()

    def stop(self) -> None:
        """Stop both threads."""
        self._is_fed.set()
        self._is_over.set()
        for thread in (self._feeder, self._reader):
            if thread.ident is not None:
                thread.join()

    def check(self) -> None:
        """Raise the error that ended one of the threads, if there is one."""
        if self._failure is not None:
            raise self._failure

    def unanswered(self, among: Collection[str] | None = None) -> list[str]:
        """Return the accepted events (of those in *among*) that no recommendation names yet."""
        ids = self.partition_of.copy() if among is None else among
        return [event_id for event_id in ids if event_id not in self.answered_s]

    def produced_until(self, moment_s: float) -> list[str]:
        """Return the events that were produced for the first time by *moment_s*."""
        return [name for name, at_s in self._produced[:] if at_s <= moment_s]

    def first_answers_s(self, since_s: float) -> dict[int, float]:
        """Return for each partition when the first event produced after *since_s* was answered."""
        first: dict[int, float] = {}
        for name, at_s in reversed(self._produced[:]):
            if at_s <= since_s:
                break
            number, answered_s = self.partition_of.get(name), self.answered_s.get(name)
            if number is not None and answered_s is not None:
                first[number] = min(first.get(number, answered_s), answered_s)
        return first

    @property
    def num_repeats(self) -> int:
        """How many deliveries repeated an event."""
        return self.num_deliveries - len(self.events)

    @property
    def longest_wait_s(self) -> float:
        """The longest wait of an answered event, from the first time it was sent."""
        waits = (at_s - self.produced_s[name] for name, at_s in self.answered_s.copy().items())
        return max(waits, default=0.0)

    @property
    def num_answered_by_two(self) -> int:
        """How many events have recommendations of different ids for one bundle."""
        num = 0
        for answers in self.answered_by.values():
            bundles = Counter(bundle_id for _, bundle_id in answers)
            num += any(count > 1 for count in bundles.values())
        return num

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the thread's outermost frame; `check` raises it
            self._failure = error

    def _feed(self) -> None:
        producer = Producer(producer_config(self._kafka) | _QUIET)
        started_s = monotonic()
        while not self._is_fed.is_set():
            due = int((monotonic() - started_s) * self._rate) + self._extra
            while self.num_deliveries < due and len(producer) < _BACKLOG:
                self._produce(producer, next(self._deliveries))
                self.num_deliveries += 1
            self._repeat(producer)
            producer.poll(_EVERY_S)
        while len(producer) or self._refused or not self._again.empty():
            self._repeat(producer)
            producer.flush(0.5)

    def _repeat(self, producer: Producer) -> None:
        while not self._again.empty():
            event = self.events[self._again.get()]
            self.counts["sent_again"] += 1
            topic = SEARCH_EVENTS if isinstance(event, Search) else WATCH_EVENTS
            self._produce(producer, Delivery(topic, event))
        refused, self._refused = self._refused, []
        for delivery in refused:
            self.counts["refused"] += 1
            self._produce(producer, delivery)

    def _produce(self, producer: Producer, delivery: Delivery) -> None:
        event = delivery.event
        self.events[event.event_id] = event
        if event.event_id not in self.produced_s:
            self.produced_s[event.event_id] = monotonic()
            self._produced.append((event.event_id, self.produced_s[event.event_id]))

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._refused.append(delivery)
            else:
                self.partition_of[event.event_id] = message.partition() or 0

        name = self._kafka.layout.name(delivery.topic)
        producer.produce(name, encode(event), event.user_id, on_delivery=on_delivery)

    def _read(self) -> None:
        names = [self._kafka.layout.name(topic) for topic in (RECOMMENDATIONS, WINDOWS)]
        config = consumer_config(self._kafka, group_id=f"ledger-{uuid4()}")
        consumer = Consumer(config | _QUIET)
        partitions = range(self._kafka.user_partitions)
        consumer.assign([TopicPartition(name, p, 0) for name in names for p in partitions])
        try:
            while not self._is_over.is_set():
                for message in take(consumer, 1_000, within_s=0.1):
                    if message.error() is not None:
                        self.counts["read_errors"] += 1
                    elif message.topic() == names[0]:
                        self._note_answer(message)
                    else:
                        self._note_window(message)
        finally:
            consumer.close()

    def _note_answer(self, message: Message) -> None:
        value = message.value()
        if value is None:
            return
        answer = _ANSWER.decode(value)
        now_s = monotonic()
        for event_id in answer.caused_by:
            self.counts["uncommitted_answered"] += event_id not in self.events
            self.answered_s.setdefault(event_id, now_s)
            self.answered_by[event_id].add((answer.recommendation_id, answer.bundle_id))
        if answer.degraded:
            self.counts["degraded"] += 1
        else:
            self.whole_answer_s = now_s

    def _note_window(self, message: Message) -> None:
        key, record = message.key() or b"", message.value()
        before = self._windows.get(key)
        self.counts["windows"] += 1
        self.windows_of[message.partition() or 0] += 1
        if record is None:
            self._windows.pop(key, None)
            return
        if before == record:
            self.counts["unchanged_windows"] += 1
        elif before is not None:
            one, other = history_codec.decode(before), history_codec.decode(record)
            if merge(one, other, _POLICY) != other:
                self.counts["stale_overwrites"] += 1
        self._windows[key] = record


_ANSWER = msgspec.json.Decoder(NotedAnswer)
_POLICY = WindowPolicy()
