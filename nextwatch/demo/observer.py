"""Observe the system from outside, by plain consumers like those of any other client.

Three threads. One reads `recommendations` and `video-uploads`, so that the moment of receipt
is not blurred by other work; one reads what explains them; one looks for uploads in the
index. No consumer group is joined and nothing is committed.
"""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from time import monotonic, sleep

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from contract.errors import StackError
from contract.kafka.client import ClientConfig, consumer_config, unhurried
from contract.kafka.topic_reader import TopicReader
from contract.points import collection_name
from contract.process.clock import Clock
from contract.process.settings import KafkaSettings, QdrantSettings
from contract.wire.topics import (
    MODEL_BUNDLES,
    RECOMMENDATIONS,
    SEARCH_EVENTS,
    TOPICS,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
)
from nextwatch.demo.figures.ledger import Position
from nextwatch.demo.figures.report import Course, Report, Uploads, report
from nextwatch.demo.figures.tally import Tally
from nextwatch.demo.retrievable import Probe, RestIndex
from nextwatch.sources.feed import quiet

_POLL_S = 0.1
_ANSWER_S = 10.0
_STOP_S = 0.2
_GROUP_ID = "nextwatch-observer"
_CONTEXT_FETCH_MS = 100  # events and bundles bear their own times

Handler = Callable[[Message], None]
Listener = Callable[[str, Message], None]
"""Takes the contract's name of the topic, and a record of it."""


@dataclass(slots=True)
class Observer:
    """Reads all relevant topics into *tally*; hold `lock` while reading from it."""

    kafka: KafkaSettings
    qdrant: QdrantSettings
    clock: Clock
    tally: Tally = field(default_factory=Tally)
    lock: Lock = field(default_factory=Lock)
    probe: Probe = field(init=False)
    failure: BaseException | None = None
    listeners: list[Listener] = field(default_factory=list)
    """Are told of each record after it was counted, by the thread that read it; set before
    `start` to miss none."""
    _is_over: Event = field(default_factory=Event)
    _threads: list[Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.probe = Probe(RestIndex(self.qdrant), self.clock, self.collection)

    def start(self) -> None:
        """Begin to observe: catalogue and bundles from their beginning, the rest from now on.

        A stack that goes on from an earlier run has events in its topics that are not this run's.
        """
        answers: dict[str, Handler] = {
            RECOMMENDATIONS.name: lambda message: self.tally.recommendation(
                message.value(), self.clock()
            ),
            VIDEO_UPLOADS.name: self._on_upload,
        }
        rest: dict[str, Handler] = {
            WATCH_EVENTS.name: self._on_event,
            SEARCH_EVENTS.name: self._on_event,
            MODEL_BUNDLES.name: lambda message: self.tally.announcement(message.value()),
        }
        refused = [topic.dlq for topic in TOPICS if topic.dead_lettered_by]
        rest |= dict.fromkeys(refused, self._on_dead_letter)
        prompt = consumer_config(self.kafka, group_id=_GROUP_ID)
        slow = unhurried(prompt, within_ms=_CONTEXT_FETCH_MS)
        reading_answers = self._reader_of(prompt, answers)
        reading_rest = self._reader_of(slow, rest)
        for name, work in (
            ("observer-answers", lambda: self._read(reading_answers, answers)),
            ("observer-events", lambda: self._read(reading_rest, rest)),
            ("observer-uploads", lambda: self.probe.run(self._is_over)),
        ):
            self._threads.append(Thread(target=self._guard, args=(work,), name=name, daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """Stop observing, without waiting for a thread that waits for the broker."""
        self._is_over.set()
        deadline_s = monotonic() + _STOP_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - monotonic()))

    def report(self, course: Course) -> Report:
        """Return the present figures of the run."""
        with self.lock:
            uploads = Uploads(
                latencies=self.probe.latencies,
                num_waiting=self.probe.num_waiting,
                num_unmeasured=self.probe.num_unmeasured,
            )
            return report(self.tally, uploads, course, now_ms=self.clock())

    def check(self) -> None:
        """Raise the failure of an observing thread, if there is one.

        Raises:
            StackError: the figures are no longer worth anything.
        """
        if self.failure is not None:
            raise StackError(f"the observer failed: {self.failure!r}") from self.failure

    def _guard(self, work: Callable[[], None]) -> None:
        """Run *work*; figures from an observer that went blind must not pass for good ones."""
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - outermost frame of a thread
            self.failure = error

    def _reader_of(self, config: ClientConfig, topics: Iterable[str]) -> TopicReader:
        """Return a reader of all partitions of *topics*, which exist."""
        consumer = Consumer(quiet(config))
        reader = TopicReader(consumer, self.kafka.layout)
        kept = {VIDEO_UPLOADS.name, MODEL_BUNDLES.name}
        reader.assign(
            {
                at: OFFSET_BEGINNING if at.topic in kept else _end_of(consumer, reader.place(at))
                for at in reader.partitions(topics, within_s=_ANSWER_S)
            }
        )
        return reader

    def _read(self, reader: TopicReader, handlers: dict[str, Handler]) -> None:
        with closing(reader):
            while not self._is_over.is_set():
                for message in reader.poll(within_s=_POLL_S):
                    topic = reader.position(message).topic
                    with self.lock:
                        handlers[topic](message)
                    for listener in self.listeners:
                        listener(topic, message)

    def collection(self) -> str | None:
        """Return the collection of the generation in service; None without one."""
        generation = self.tally.generation
        return collection_name(self.qdrant.prefix(self.kafka), generation) if generation else None

    def _on_event(self, message: Message) -> None:
        self.tally.event(_position(message), message.value(), _stamp_ms(message))

    def _on_upload(self, message: Message) -> None:
        video_id = (message.key() or b"").decode(errors="replace")
        if message.value() is None:
            self.probe.remove(video_id)
        if self.tally.upload(video_id, message.value(), _stamp_ms(message)):
            self.probe.add(video_id, _stamp_ms(message))

    def _on_dead_letter(self, message: Message) -> None:
        self.tally.dead_letter(str(message.topic()), _source(message))


def _end_of(consumer: Consumer, place: TopicPartition) -> int:
    """Return the offset after the last record of *place*.

    A broker that has just come back listens before it leads its partitions, so it is asked again.

    Raises:
        StackError: it did not say within `_ANSWER_S`.
    """
    deadline_s = monotonic() + _ANSWER_S
    while True:
        try:
            _, end = consumer.get_watermark_offsets(place, timeout=_ANSWER_S)
        except KafkaException as error:
            if monotonic() > deadline_s:
                raise StackError(f"the observer cannot read {place.topic}: {error}") from error
            sleep(_POLL_S)
        else:
            return int(end)


def _position(message: Message) -> Position:
    return str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)


def _stamp_ms(message: Message) -> int:
    return int(message.timestamp()[1])


def _source(message: Message) -> Position | None:
    """Return where the record stands that this dead letter was, from its headers."""
    given: list[tuple[str, bytes]] = list(message.headers() or [])  # type: ignore[arg-type]  # its stub is too wide
    headers = dict(given)
    try:
        return (
            headers["dlq.topic"].decode(),
            int(headers["dlq.partition"]),
            int(headers["dlq.offset"]),
        )
    except (KeyError, ValueError):
        return None
