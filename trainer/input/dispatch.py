"""Decode records and apply them to the training state.

A bad record changes nothing but a counter. Of the one topic whose bad records the trainer keeps, it
is also dead-lettered; those of all other topics are kept by other processes.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from contract.errors import DecodeError
from contract.kafka.outbox import Outgoing
from contract.kafka.records import Received
from contract.process.clock import Clock
from contract.wire.dead_letters import dead_letter
from contract.wire.decoding import check_not_future, check_place, decode, tombstone_id
from contract.wire.events import (
    BundleAnnouncement,
    Event,
    Impressions,
    RankingLog,
    Search,
    UserDeletion,
    VideoUpload,
    Watch,
)
from contract.wire.mending import Notes
from contract.wire.topics import (
    IMPRESSIONS,
    MODEL_BUNDLES,
    RANKING_LOG,
    SEARCH_EVENTS,
    USER_DELETIONS,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
    Layout,
    Topic,
)
from trainer.guard.quarantine import Quarantine
from trainer.input.tracing import LearningTraces
from trainer.publish.generations import Generations
from trainer.state.training_state import TrainingState

log = structlog.get_logger()

APP = "nextwatch-trainer"
_MISPLACED = "misplaced"
SOURCES = {
    topic.name: topic
    for topic in (
        VIDEO_UPLOADS,
        MODEL_BUNDLES,
        USER_DELETIONS,
        SEARCH_EVENTS,
        WATCH_EVENTS,
        IMPRESSIONS,
        RANKING_LOG,
    )
}


class Sending(Protocol):
    """The method of an outbox that the intake calls."""

    def send(self, records: Sequence[Outgoing]) -> object:
        """Queue *records*; they are acknowledged before an offset beyond theirs is saved."""
        ...


class Intake:
    """Applies records to the training state, and announcements to the generations."""

    def __init__(
        self,
        state: TrainingState,
        generations: Generations,
        outbox: Sending,
        layout: Layout,
        clock: Clock,
        quarantine: Quarantine | None = None,
        on_refusal: Callable[[Topic, DecodeError], None] = lambda _topic, _error: None,
        tracing: LearningTraces | None = None,
    ) -> None:
        self._state = state
        self._quarantine = quarantine
        self._generations = generations
        self._outbox = outbox
        self._layout = layout
        self._clock = clock
        self._on_refusal = on_refusal
        self._tracing = tracing
        self.refused: Counter[str] = Counter()
        self._num_misplaced_logged = 0
        self.mended: Notes = Counter()

    def take(self, record: Received) -> None:
        """Apply *record*, or reject it; no content of a record raises."""
        topic = SOURCES[record.topic]
        try:
            self._apply(topic, record)
        except DecodeError as error:
            self.refused[f"{topic.name}:{error.reason}"] += 1
            self._on_refusal(topic, error)
            if topic.dead_lettered_by == "trainer":
                self._dead_letter(topic, record, error)

    def warn_of_misplaced(self) -> None:
        """Warn of the number of misplaced records, if more came since the last warning.

        After a change of the partition count these are what was not read before it.
        """
        by_topic = {
            name.partition(":")[0]: count
            for name, count in self.refused.items()
            if name.endswith(f":{_MISPLACED}")
        }
        if sum(by_topic.values()) > self._num_misplaced_logged:
            self._num_misplaced_logged = sum(by_topic.values())
            log.warning("records_misplaced", refused=self._num_misplaced_logged, topics=by_topic)

    def _apply(self, topic: Topic, record: Received) -> None:
        if topic is VIDEO_UPLOADS and record.value is None:
            video_id = tombstone_id(record.key, record.headers)
            check_place(record)
            self._state.take_down(video_id)
            return
        if topic is MODEL_BUNDLES and record.value is None:
            self._generations.forget(tombstone_id(record.key, record.headers))
            return
        assert topic.kind is not None
        event = decode(topic, topic.kind, record.key, record.value, record.headers, self.mended)
        check_place(record, event)
        check_not_future(event, ingested_at_ms=record.ingested_at_ms, clock=self._clock)
        if self._state.guard is not None:
            self._state.guard.ingested_at_ms = record.ingested_at_ms
        if self._is_left_out(record):
            self._apply_left_out(event)
        else:
            if self._tracing is not None and isinstance(event, Watch):
                self._tracing.note(record, event)
            self._apply_event(event, record.partition)

    def _is_left_out(self, record: Received) -> bool:
        """Return whether the record is in quarantine."""
        quarantine = self._quarantine
        return quarantine is not None and quarantine.has(
            record.topic, record.partition, record.offset
        )

    def _apply_left_out(self, event: Event) -> None:
        """Move the user's window on, and learn nothing."""
        if isinstance(event, Watch):
            self._state.watch_only(event)
        else:
            self._state.counts["quarantined_records"] += 1

    def _apply_event(self, event: Event, partition: int) -> None:
        match event:
            case Watch():
                self._state.watch(event, partition)
            case Search():
                self._state.search(event)
            case Impressions():
                self._state.impressions(event, partition)
            case RankingLog():
                self._state.ranking_log(event, partition)
            case VideoUpload():
                self._state.upload(event)
            case UserDeletion():
                self._state.erase(event)
            case BundleAnnouncement():
                self._generations.note(event)

    def _dead_letter(self, topic: Topic, record: Received, error: DecodeError) -> None:
        log.warning(
            "record_dead_lettered",
            reason=error.reason,
            topic=topic.name,
            partition=record.partition,
            offset=record.offset,
        )
        letter = dead_letter(
            record,
            error,
            layout=self._layout,
            topic=topic,
            app=APP,
            now_ms=self._clock(),
        )
        self._outbox.send([letter])
