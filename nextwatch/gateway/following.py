"""Follow the topics that the gateway answers from, in a thread and without a consumer group.

Of `recommendations` a start reads the newest records only, of the lists all. Every gateway reads
every partition, so that any of them answers for any user.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from math import ceil
from threading import Event, Thread

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer

from contract.errors import DecodeError
from contract.kafka.client import consumer_config, read_to_end, retried
from contract.kafka.records import Position, Received, received
from contract.kafka.topic_reader import TopicReader
from contract.metrics.definitions import SKIPPED, VIEW_RECORDS
from contract.metrics.metric import MetricSample
from contract.metrics.refusals import RefusalCounts
from contract.process.settings import KafkaSettings
from contract.wire.decoding import decode, tombstone_id
from contract.wire.events import HottestVideos, Recommendation, SimilarVideos
from contract.wire.topics import HOTTEST_VIDEOS, RECOMMENDATIONS, SIMILAR_VIDEOS
from nextwatch.acls import gateway_group
from nextwatch.gateway.answers import Answers
from nextwatch.gateway.lists import PublishedLists

log = structlog.get_logger()

FOLLOWED = (RECOMMENDATIONS, SIMILAR_VIDEOS, HOTTEST_VIDEOS)
_ANSWER_S = 10.0
_POLL_S = 0.2
_STOP_S = 2.0
_END_WITHIN_MS = 100


class ViewReader:
    """Reads into *answers* and *lists*; *on_failure* is told when it cannot go on."""

    def __init__(
        self,
        kafka: KafkaSettings,
        answers: Answers,
        lists: PublishedLists,
        *,
        tail_records: int,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._kafka = kafka
        self._answers = answers
        self._lists = lists
        self._tail_records = tail_records
        self._on_failure = on_failure
        self._is_over = Event()
        self._thread = Thread(target=self._run, name="gateway-views", daemon=True)
        self._unread: frozenset[Position] | None = None
        self._taken: Counter[str] = Counter({topic.name: 0 for topic in FOLLOWED})
        self._skipped = RefusalCounts(SKIPPED, [topic.name for topic in FOLLOWED])

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading, without waiting long for a broker that is away."""
        self._is_over.set()
        self._thread.join(_STOP_S)

    @property
    def is_alive(self) -> bool:
        """Whether it reads."""
        return self._thread.is_alive()

    @property
    def reason(self) -> str:
        """Why the view is not complete yet; empty when it is."""
        if self._unread is None:
            return "the topics are not assigned yet"
        names = sorted({at.topic for at in self._unread})
        return f"not yet read to the end: {', '.join(names)}" if names else ""

    @property
    def counts(self) -> dict[str, int]:
        """How many records of each topic were taken, and how many of all skipped."""
        return {**self._taken, "skipped": self._skipped.total()}

    def samples(self) -> Iterator[MetricSample]:
        """Yield the counts of records."""
        for topic, count in self._taken.copy().items():
            yield MetricSample(VIEW_RECORDS, count, (topic,))
        yield from self._skipped.samples()

    def take(self, record: Received) -> None:
        """Apply one record; what breaks the contract is counted and skipped."""
        try:
            self._apply(record)
        except DecodeError as error:
            self._skipped.note(record.topic, error.reason)
            return
        self._taken[record.topic] += 1

    def _apply(self, record: Received) -> None:
        key, value, headers = record.key, record.value, record.headers
        gone = tombstone_id(key, headers) if value is None else ""
        if record.topic == RECOMMENDATIONS.name:
            if value is None:
                self._answers.forget(gone)
                return
            answer = decode(RECOMMENDATIONS, Recommendation, key, value, headers)
            self._answers.put(answer, value, headers)
        elif record.topic == SIMILAR_VIDEOS.name:
            if value is not None:
                gone = decode(SIMILAR_VIDEOS, SimilarVideos, key, value, headers).video_id
            self._lists.put_similar(gone, value)
        else:
            if value is not None:
                gone = decode(HOTTEST_VIDEOS, HottestVideos, key, value, headers).list_name
            self._lists.put_hottest(gone, value)

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001 - outermost frame of a thread
            self._on_failure(error)

    def _read(self) -> None:
        group_id = gateway_group(self._kafka.layout)
        config = consumer_config(self._kafka, group_id=group_id)
        consumer = Consumer(read_to_end(config, within_ms=_END_WITHIN_MS))
        with closing(TopicReader(consumer, self._kafka.layout)) as reader:
            reader.assign(self._start_of(consumer, reader))
            self._unread = reader.unread
            while not self._is_over.is_set():
                for message in reader.poll(within_s=_POLL_S):
                    self.take(received(message, self._kafka.layout))
                if self._unread and not reader.unread:
                    log.info("gateway_caught_up", **self.counts)
                self._unread = reader.unread

    def _start_of(self, consumer: Consumer, reader: TopicReader) -> dict[Position, int]:
        names = [topic.name for topic in FOLLOWED]
        places = reader.partitions(names, within_s=_ANSWER_S)
        num_answering = sum(at.topic == RECOMMENDATIONS.name for at in places)
        tail = ceil(self._tail_records / num_answering)

        def start(at: Position) -> int:
            if at.topic != RECOMMENDATIONS.name:
                return int(OFFSET_BEGINNING)
            first, end = retried(
                lambda left_s: consumer.get_watermark_offsets(reader.place(at), timeout=left_s),
                within_s=_ANSWER_S,
            )
            return max(int(first), int(end) - tail)

        return {at: start(at) for at in places}
