"""What of a micro-batch may be processed, decoded and sorted by partition and user.

A partition's records are taken in the order of their offsets, without a hole: whoever
acknowledges an offset vouches for every record before it. An offset that jumps forward is
sought back, and what comes after the hole waits. What breaks the contract becomes a dead
letter, or is counted where another process tells of it; nothing here raises for what is in a record.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import structlog

from contract.clock import Clock
from contract.dead_letters import dead_letter
from contract.decoding import check_not_future, check_place, decode
from contract.errors import DecodeError
from contract.events import (
    MAX_AHEAD_MS,
    Impressions,
    RecommendationRequest,
    Search,
    UserDeletion,
    Watch,
)
from contract.mending import Notes
from contract.outbox import Outgoing
from contract.records import Position, Received
from contract.topics import (
    IMPRESSIONS,
    RECOMMENDATION_REQUESTS,
    SEARCH_EVENTS,
    USER_DELETIONS,
    WATCH_EVENTS,
    Layout,
    Topic,
)
from models.history import Happened
from streams.partition import Partition
from streams.partitions import Partitions

log = structlog.get_logger()

Asking = Watch | Search | RecommendationRequest
"""What is answered by a recommendation."""
SOURCES: dict[str, tuple[Topic, type[Happened | RecommendationRequest]]] = {
    WATCH_EVENTS.name: (WATCH_EVENTS, Watch),
    SEARCH_EVENTS.name: (SEARCH_EVENTS, Search),
    IMPRESSIONS.name: (IMPRESSIONS, Impressions),
    RECOMMENDATION_REQUESTS.name: (RECOMMENDATION_REQUESTS, RecommendationRequest),
    USER_DELETIONS.name: (USER_DELETIONS, UserDeletion),
}
APP = "streams"
MAX_SEEKS = 3
"""How often a missing offset is sought again before the records are taken for deleted."""


@dataclass(slots=True)
class Share:
    """One partition's share of a micro-batch: what happened by user, and what asks for an answer.

    A request asks and has not happened: it changes no window. ``erased`` are the users with a
    deletion, ``to_tell`` those of them whose deletion `recommendations` has not been told of.
    ``copies`` are users of other partitions with a deletion for all of them.
    """

    partition: Partition
    next_offsets: dict[str, int] = field(default_factory=dict)
    events: dict[str, list[Happened]] = field(default_factory=lambda: defaultdict(list))
    to_answer: dict[str, list[Asking]] = field(default_factory=lambda: defaultdict(list))
    erased: set[str] = field(default_factory=set)
    copies: set[str] = field(default_factory=set)
    to_tell: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Taken:
    """A micro-batch: the shares, the dead letters, and where a hole has to be sought back."""

    shares: list[Share]
    dead: list[Outgoing]
    missing: dict[Position, int]


class Intake:
    """Turns records into shares."""

    def __init__(
        self, partitions: Partitions, *, layout: Layout, clock: Clock, app_id: str
    ) -> None:
        self._partitions = partitions
        self._layout = layout
        self._clock = clock
        self._app_id = app_id
        self._sought: Counter[Position] = Counter()
        self.counts: Counter[str] = Counter()
        self.mended: Notes = Counter()

    @property
    def latest_ms(self) -> int:
        """The latest date of an event that is accepted now."""
        return self._clock() + MAX_AHEAD_MS

    def take(self, records: Sequence[Received]) -> Taken:
        """Return what of *records* may be processed; the partitions expect what follows it."""
        taken = Taken([], [], {})
        shares: dict[int, Share] = {}
        for record in self._in_order(records, taken.missing):
            partition = self._partitions.get(record.partition)
            assert partition is not None
            share = shares.setdefault(partition.number, Share(partition))
            share.next_offsets[record.topic] = partition.expected[record.topic]
            self._sort_in(record, share, taken.dead)
        taken.shares.extend(shares.values())
        return taken

    def _in_order(
        self, records: Iterable[Received], missing: dict[Position, int]
    ) -> Iterator[Received]:
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

    def _sort_in(self, record: Received, share: Share, dead: list[Outgoing]) -> None:
        topic, kind = SOURCES[record.topic]
        num_kinds_mended = len(self.mended)
        is_answered = record.offset < share.partition.answered_before[topic.name]
        try:
            event = decode(topic, kind, record.key, record.value, record.headers, self.mended)
            check_place(record, event)
            check_not_future(event, ingested_at_ms=record.ingested_at_ms, clock=self._clock)
        except DecodeError as error:
            self._refuse(record, topic, error, None if is_answered else dead)
            return
        if len(self.mended) > num_kinds_mended:  # the first of its kind: senders can do better
            log.warning("event_mended", topic=topic.name, mended=list(self.mended)[-1])
        if not isinstance(event, RecommendationRequest):
            share.events[event.user_id].append(event)
        if isinstance(event, UserDeletion):
            is_at_home = record.partition == record.home
            (share.erased if is_at_home else share.copies).add(event.user_id)
            if is_at_home and not is_answered:
                share.to_tell.add(event.user_id)
        elif not is_answered and isinstance(event, Asking):
            share.to_answer[event.user_id].append(event)

    def _refuse(
        self, record: Received, topic: Topic, error: DecodeError, dead: list[Outgoing] | None
    ) -> None:
        """Count a record that breaks the contract; it goes to *dead*, if it is for us to tell."""
        if topic.dead_lettered_by != APP:
            self.counts[f"skipped:{error.reason}"] += 1
            return
        self.counts[f"dead:{error.reason}"] += 1
        if dead is not None:
            dead.append(self._dead_letter(record, topic, error))

    def _dead_letter(self, record: Received, topic: Topic, error: DecodeError) -> Outgoing:
        # somebody waits for an erasure by law: a deletion that cannot be read needs a person
        tell = log.error if topic is USER_DELETIONS else log.warning
        tell("event_dead_lettered", reason=error.reason, topic=topic.name,
             partition=record.partition, offset=record.offset)  # fmt: skip
        return dead_letter(
            record,
            error,
            layout=self._layout,
            topic=topic,
            app=self._app_id,
            now_ms=self._clock(),
        )
