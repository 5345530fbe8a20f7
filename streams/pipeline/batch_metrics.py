"""Count what micro-batches brought, once for each batch and after the broker has acknowledged it.

The thread that commits writes; a scrape reads.
"""

from collections import Counter
from collections.abc import Iterator

from contract.kafka.outbox import Outgoing
from contract.kafka.records import Position
from contract.metrics.buckets import BucketCounts
from contract.metrics.definitions import (
    ANSWER,
    BATCH_RECORDS,
    DEAD_LETTERS,
    DEGRADED,
    EVENT_TO_RECOMMENDATION,
    RECOMMENDATIONS,
    RECORDS,
    SIZES,
)
from contract.metrics.metric import MetricSample
from contract.metrics.refusals import RefusalCounts
from contract.process.clock import Clock
from contract.wire import words
from streams.pipeline.batch import Batch
from streams.pipeline.decode import APP, SOURCES


class BatchMetrics:
    """The figures of the batches that are done."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._recommendations = 0
        self._degraded = Counter(dict.fromkeys(words.DEGRADED, 0))
        self._answer_s = BucketCounts(ANSWER)
        self._sizes = BucketCounts(SIZES)
        self._records = Counter(dict.fromkeys(SOURCES, 0))
        ours = [topic.name for topic, _ in SOURCES.values() if topic.dead_lettered_by == APP]
        self._dead = RefusalCounts(DEAD_LETTERS, ours)
        self.done_ms: dict[Position, int] = {}
        """By partition the timestamp of the newest record that is done."""

    def note(self, batch: Batch) -> None:
        """Count *batch*, whose records are acknowledged."""
        self._sizes.observe(len(batch.records))
        self._records.update([record.topic for record in batch.records])
        for records in batch.partitions:
            number = records.partition.number
            for topic, ingested_ms in records.ingested_ms.items():
                self.done_ms[Position(topic, number)] = ingested_ms
        if batch.recommendations:
            self._note_answers(batch)
        for letter in batch.dead_letters:
            self._note_letter(letter)

    def _note_answers(self, batch: Batch) -> None:
        now_ms = self._clock()
        self._recommendations += len(batch.recommendations)
        self._answer_s.observe_all(
            [max(0, now_ms - asked_ms) / 1_000 for asked_ms in batch.asked_ms]
        )
        for recommendation in batch.recommendations:
            if recommendation.degraded:
                self._degraded.update(recommendation.degraded)

    def _note_letter(self, letter: Outgoing) -> None:
        headers = dict(letter.headers)
        topic, reason = headers["dlq.topic"], headers["dlq.reason"]
        assert isinstance(topic, bytes)
        assert isinstance(reason, bytes)
        self._dead.note(topic.decode(), reason.decode())

    def samples(self) -> Iterator[MetricSample]:
        """Yield everything that was counted."""
        yield MetricSample(RECOMMENDATIONS, self._recommendations)
        yield MetricSample(EVENT_TO_RECOMMENDATION, self._answer_s.snapshot())
        yield MetricSample(BATCH_RECORDS, self._sizes.snapshot())
        for reason, count in self._degraded.copy().items():
            yield MetricSample(DEGRADED, count, (reason,))
        for topic, count in self._records.copy().items():
            yield MetricSample(RECORDS, count, (topic,))
        yield from self._dead.samples()
