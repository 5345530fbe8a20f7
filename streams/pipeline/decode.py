"""Decode the records of a micro-batch into events, sorted by partition and user.

A partition's records come in the order of their offsets. Offsets have gaps: marks of transactions,
aborted ones, and what compaction or retention took. What breaks the contract becomes a dead letter,
or is counted where another process tells of it; nothing here raises for what is in a record.
"""

from collections import Counter

import structlog

from contract.errors import DecodeError
from contract.kafka.outbox import Outgoing
from contract.kafka.records import Received
from contract.metrics.definitions import SKIPPED
from contract.metrics.refusals import RefusalCounts
from contract.process.clock import Clock
from contract.process.tracing import Tracer
from contract.wire.dead_letters import dead_letter
from contract.wire.decoding import check_not_future, check_place, decode
from contract.wire.events import (
    MAX_AHEAD_MS,
    Impressions,
    RecommendationRequest,
    Search,
    UserDeletion,
    Watch,
)
from contract.wire.mending import Notes
from contract.wire.topics import (
    IMPRESSIONS,
    RECOMMENDATION_REQUESTS,
    SEARCH_EVENTS,
    STREAMS_APP,
    USER_DELETIONS,
    WATCH_EVENTS,
    Layout,
    Topic,
)
from models.history.history import Happened
from streams.pipeline.batch import Asking, Batch, PartitionRecords
from streams.pipeline.tracing import BatchTrace
from streams.state.partitions import Partitions

log = structlog.get_logger()

SOURCES: dict[str, tuple[Topic, type[Happened | RecommendationRequest]]] = {
    WATCH_EVENTS.name: (WATCH_EVENTS, Watch),
    SEARCH_EVENTS.name: (SEARCH_EVENTS, Search),
    IMPRESSIONS.name: (IMPRESSIONS, Impressions),
    RECOMMENDATION_REQUESTS.name: (RECOMMENDATION_REQUESTS, RecommendationRequest),
    USER_DELETIONS.name: (USER_DELETIONS, UserDeletion),
}
APP = "streams"


class BatchDecoder:
    """Decodes micro-batches, and counts what was repaired or left out."""

    def __init__(
        self,
        partitions: Partitions,
        *,
        layout: Layout,
        clock: Clock,
        tracer: Tracer | None = None,
    ) -> None:
        self._partitions = partitions
        self._layout = layout
        self._clock = clock
        self._tracer = tracer
        self.counts: Counter[str] = Counter()
        others = [topic.name for topic, _ in SOURCES.values() if topic.dead_lettered_by != APP]
        self.skipped = RefusalCounts(SKIPPED, others)
        self.mended: Notes = Counter()

    def latest_ms(self, records: PartitionRecords) -> int:
        """Return the latest event time that may be in a window now.

        It is later than what is accepted where this worker's clock is slow: the records say so.
        """
        return max(self._clock(), records.newest_ms) + MAX_AHEAD_MS

    def new_trace(self) -> BatchTrace | None:
        """Return what notes the traced events of a batch; None where nothing is traced."""
        return BatchTrace(self._tracer) if self._tracer is not None else None

    def decode(self, batch: Batch) -> None:
        """Decode the records of *batch*, except those of partitions that are not ours."""
        found: dict[int, PartitionRecords] = {}
        for record in batch.records:
            partition = self._partitions.get(record.partition)
            if partition is None or not partition.positions.is_read(record.topic):
                self.counts["records_of_others"] += 1
                continue
            records = found.setdefault(partition.number, PartitionRecords(partition))
            records.next_offsets[record.topic] = record.offset + 1
            records.newest_ms = max(records.newest_ms, record.ingested_at_ms)
            records.ingested_ms[record.topic] = record.ingested_at_ms
            self._decode(record, records, batch)
        batch.partitions = list(found.values())

    def _decode(self, record: Received, records: PartitionRecords, batch: Batch) -> None:
        topic, kind = SOURCES[record.topic]
        num_kinds_mended = len(self.mended)
        is_answered = records.partition.positions.is_answered(topic.name, record.offset)
        try:
            event = decode(topic, kind, record.key, record.value, record.headers, self.mended)
            check_place(record, event)
            check_not_future(event, ingested_at_ms=record.ingested_at_ms, clock=self._clock)
        except DecodeError as error:
            self._refuse(record, topic, error, None if is_answered else batch.dead_letters)
            return
        if len(self.mended) > num_kinds_mended:  # the first of its kind: senders can do better
            log.warning("event_mended", topic=topic.name, mended=list(self.mended)[-1])
        if not isinstance(event, RecommendationRequest):
            records.events[event.user_id].append(event)
        if isinstance(event, UserDeletion):
            is_at_home = record.partition == record.home
            (records.erased if is_at_home else records.copies).add(event.user_id)
            if is_at_home and not is_answered:
                records.to_tell.add(event.user_id)
        elif not is_answered and isinstance(event, Asking):
            records.to_answer[event.user_id].append(event)
            batch.asked_ms.append(record.ingested_at_ms)
            if batch.trace is not None:
                batch.trace.note(record, event.event_id)

    def _refuse(
        self, record: Received, topic: Topic, error: DecodeError, dead: list[Outgoing] | None
    ) -> None:
        """Count a record that breaks the contract; it goes to *dead*, if it is for us to tell."""
        if topic.dead_lettered_by != APP:
            self.counts[f"skipped:{error.reason}"] += 1
            self.skipped.note(topic.name, error.reason)
            return
        self.counts[f"dead:{error.reason}"] += 1
        if dead is not None:
            dead.append(self._dead_letter(record, topic, error))

    def _dead_letter(self, record: Received, topic: Topic, error: DecodeError) -> Outgoing:
        # an erasure is required by law: a deletion that cannot be read needs a person
        tell = log.error if topic is USER_DELETIONS else log.warning
        tell("record_dead_lettered", reason=error.reason, topic=topic.name,
             partition=record.partition, offset=record.offset)  # fmt: skip
        return dead_letter(
            record,
            error,
            layout=self._layout,
            topic=topic,
            app=STREAMS_APP,
            now_ms=self._clock(),
        )
