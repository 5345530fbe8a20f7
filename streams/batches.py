"""One micro-batch, in the order that loses nothing.

1. fold       each user's events into the window; nothing outside has changed yet
2. write      windows and next offsets, in one local write       crash: both or neither
3. recommend  from the new windows                               crash: read again from 1
4. deliver    changelog, recommendations, dead letters           crash: delivered again, same ids
5. acknowledge                                                   only now may the offsets be committed

A crash anywhere replays events that change no window and publishes the same records again.
Windows are published even when a replay did not change them: the crash may have come after
the write and before the delivery, and the changelog must never stay behind the store.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from contract.clock import Clock
from contract.dead_letters import dead_letter
from contract.decoding import check_not_future, decode
from contract.errors import DecodeError
from contract.events import Recommendation, Search, UserDeletion, Watch, encode
from contract.outbox import Outgoing
from contract.records import Position, Received
from contract.topics import (
    RECOMMENDATIONS,
    SEARCH_EVENTS,
    USER_DELETIONS,
    WATCH_EVENTS,
    WINDOWS,
    Layout,
    Topic,
)
from models import history_codec
from models.history import Window, WindowPolicy, fold
from streams.fence import Fence
from streams.partitions import CHANGELOG, Partition, Partitions
from streams.recommend import Recommender, Request

log = structlog.get_logger()

Handled = Watch | Search | UserDeletion
SOURCES: dict[str, tuple[Topic, type[Handled]]] = {
    WATCH_EVENTS.name: (WATCH_EVENTS, Watch),
    SEARCH_EVENTS.name: (SEARCH_EVENTS, Search),
    USER_DELETIONS.name: (USER_DELETIONS, UserDeletion),
}
MAX_SEEKS = 3
"""How often a missing offset is sought again before the records are taken for deleted."""


@dataclass(slots=True)
class Work:
    """What one partition's share of a micro-batch comes to."""

    partition: Partition
    next_offsets: dict[str, int] = field(default_factory=dict)
    events: dict[str, list[Handled]] = field(default_factory=lambda: defaultdict(list))
    to_answer: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    windows: dict[str, Window] = field(default_factory=dict)
    records: dict[str, bytes] = field(default_factory=dict)


class Delivery(Protocol):
    """What the batch processor needs of an outbox."""

    def deliver(self, records: Sequence[Outgoing]) -> list[int]:
        """Produce *records* and return their offsets, in their order, once acknowledged."""
        ...


class BatchProcessor:
    """Takes micro-batches of any partitions through the five steps."""

    def __init__(
        self,
        partitions: Partitions,
        recommender: Recommender,
        outbox: Delivery,
        fence: Fence,
        *,
        layout: Layout,
        policy: WindowPolicy,
        clock: Clock,
        app_id: str,
    ) -> None:
        self._partitions = partitions
        self._recommender = recommender
        self._outbox = outbox
        self._fence = fence
        self._layout = layout
        self._policy = policy
        self._clock = clock
        self._app_id = app_id
        self._sought: Counter[Position] = Counter()
        self.counts: Counter[str] = Counter()

    def process(self, records: Sequence[Received]) -> dict[Position, int]:
        """Take *records* through the five steps; return the positions to seek back to.

        Raises:
            BrokerUnavailable: something was not acknowledged; nothing may be committed.
            WorkerPausedError: this process may no longer own its partitions.
        """
        missing: dict[Position, int] = {}
        dead: list[Outgoing] = []
        works: dict[int, Work] = {}
        for record in self._in_order(records, missing):
            partition = self._partitions.get(record.partition)
            assert partition is not None
            work = works.setdefault(partition.number, Work(partition))
            work.next_offsets[record.topic] = partition.expected[record.topic]
            self._sort_in(record, work, dead)
        for work in works.values():
            self._fold_and_write(work)
        answers = self._recommend(works.values())
        changes = [out for work in works.values() for out in self._changes(work)]
        self._fence.check()
        offsets = self._outbox.deliver(changes + answers + dead)
        self._acknowledge(works.values(), changes, offsets)
        return missing

    def _in_order(
        self, records: Iterable[Received], missing: dict[Position, int]
    ) -> Iterable[Received]:
        """Yield what may be processed: no record of others, none after a gap."""
        for record in records:
            partition = self._partitions.get(record.partition)
            if partition is None or record.topic not in partition.expected:
                self.counts["records_of_others"] += 1
                continue
            at, expected = record.at, partition.expected[record.topic]
            if record.offset > expected and not self._is_gone(record, expected, missing):
                continue
            if at in missing:
                continue
            self._sought.pop(at, None)
            partition.expected[record.topic] = max(expected, record.offset + 1)
            yield record

    def _is_gone(self, record: Received, expected: int, missing: dict[Position, int]) -> bool:
        """Say whether the records before this one no longer exist; else note them as missing."""
        at = record.at
        if at in missing:
            return False
        if self._sought[at] >= MAX_SEEKS:
            log.error("records_gone", topic=at.topic, partition=at.partition,
                      expected=expected, got=record.offset)  # fmt: skip
            return True
        self._sought[at] += 1
        self.counts["gaps"] += 1
        missing[at] = expected
        log.warning("gap_found", topic=at.topic, partition=at.partition,
                    expected=expected, got=record.offset)  # fmt: skip
        return False

    def _sort_in(self, record: Received, work: Work, dead: list[Outgoing]) -> None:
        topic, kind = SOURCES[record.topic]
        is_answered = record.offset < work.partition.answered_before[topic.name]
        try:
            event: Handled = decode(topic, kind, record.key, record.value)
            if not isinstance(event, UserDeletion):
                check_not_future(
                    event.event_time_ms, ingested_at_ms=record.ingested_at_ms, clock=self._clock
                )
        except DecodeError as error:
            self.counts[f"dead:{error.reason}"] += 1
            if not is_answered:
                dead.append(self._dead_letter(record, error))
            return
        work.events[event.user_id].append(event)
        if not is_answered and not isinstance(event, UserDeletion):
            work.to_answer[event.user_id].append(event.event_id)

    def _fold_and_write(self, work: Work) -> None:
        before = work.partition.windows(work.events)
        work.windows = {
            user_id: fold(before[user_id], events, self._policy)
            for user_id, events in work.events.items()
        }
        work.records = {
            user_id: history_codec.encode(window) for user_id, window in work.windows.items()
        }
        changed = {
            user_id: record
            for user_id, record in work.records.items()
            if work.windows[user_id] != before[user_id]
        }
        offsets = work.next_offsets | {CHANGELOG: work.partition.changelog_next}
        work.partition.store.write(changed, offsets)

    def _recommend(self, works: Iterable[Work]) -> list[Outgoing]:
        requests = [
            Request(user_id, work.windows[user_id], event_ids)
            for work in works
            for user_id, event_ids in work.to_answer.items()
        ]
        answers = self._recommender.recommend(requests) if requests else []
        self.counts["recommendations"] += len(answers)
        return [self._answer(answer) for answer in answers]

    def _answer(self, answer: Recommendation) -> Outgoing:
        name = self._layout.name(RECOMMENDATIONS)
        return Outgoing(name, answer.user_id.encode(), encode(answer))

    def _changes(self, work: Work) -> list[Outgoing]:
        name, number = self._layout.name(WINDOWS), work.partition.number
        return [
            Outgoing(name, user_id.encode(), record, partition=number)
            for user_id, record in work.records.items()
        ]

    def _dead_letter(self, record: Received, error: DecodeError) -> Outgoing:
        topic, _ = SOURCES[record.topic]
        log.warning("event_dead_lettered", reason=error.reason, topic=topic.name,
                    partition=record.partition, offset=record.offset)  # fmt: skip
        return dead_letter(
            record,
            error,
            layout=self._layout,
            topic=topic,
            app=self._app_id,
            now_ms=self._clock(),
        )

    def _acknowledge(
        self, works: Iterable[Work], changes: Sequence[Outgoing], offsets: Sequence[int]
    ) -> None:
        newest: dict[int, int] = {}
        for change, offset in zip(changes, offsets, strict=False):
            newest[change.partition] = max(newest.get(change.partition, -1), offset)
        for work in works:
            mine = newest.get(work.partition.number, -1) + 1
            work.partition.changelog_next = max(work.partition.changelog_next, mine)
            work.partition.acknowledged |= work.next_offsets
