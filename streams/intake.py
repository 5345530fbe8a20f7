"""What of a micro-batch may be processed, decoded and sorted by partition and user.

A partition's records come in the order of their offsets. Offsets have gaps: marks of transactions,
aborted ones, and what compaction or retention took. What breaks the contract becomes a dead letter,
or is counted where another process tells of it; nothing here raises for what is in a record.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
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
from contract.records import Received
from contract.topics import (
    IMPRESSIONS,
    RECOMMENDATION_REQUESTS,
    SEARCH_EVENTS,
    STREAMS_APP,
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


@dataclass(slots=True)
class Share:
    """One partition's share of a micro-batch: what happened by user, and what asks for an answer.

    A request asks and has not happened: it changes no window. ``erased`` are the users with a
    deletion, ``to_tell`` those of them whose deletion `recommendations` has not been told of.
    ``copies`` are users of other partitions with a deletion for all of them. ``newest_ms`` is the
    latest time that one of its records bears.
    """

    partition: Partition
    next_offsets: dict[str, int] = field(default_factory=dict)
    events: dict[str, list[Happened]] = field(default_factory=lambda: defaultdict(list))
    to_answer: dict[str, list[Asking]] = field(default_factory=lambda: defaultdict(list))
    erased: set[str] = field(default_factory=set)
    copies: set[str] = field(default_factory=set)
    to_tell: set[str] = field(default_factory=set)
    newest_ms: int = 0


@dataclass(slots=True)
class Taken:
    """A micro-batch: the shares and the dead letters."""

    shares: list[Share]
    dead: list[Outgoing]


class Intake:
    """Turns records into shares."""

    def __init__(self, partitions: Partitions, *, layout: Layout, clock: Clock) -> None:
        self._partitions = partitions
        self._layout = layout
        self._clock = clock
        self.counts: Counter[str] = Counter()
        self.mended: Notes = Counter()

    def latest_ms(self, share: Share) -> int:
        """Return the latest date of an event that may stand in a window now.

        It is later than what is accepted where this worker's clock is slow: the records say so.
        """
        return max(self._clock(), share.newest_ms) + MAX_AHEAD_MS

    def take(self, records: Sequence[Received]) -> Taken:
        """Return what of *records* may be processed: nothing of partitions that are not ours."""
        shares: dict[int, Share] = {}
        dead: list[Outgoing] = []
        for record in records:
            partition = self._partitions.get(record.partition)
            if partition is None or not partition.positions.is_read(record.topic):
                self.counts["records_of_others"] += 1
                continue
            share = shares.setdefault(partition.number, Share(partition))
            share.next_offsets[record.topic] = record.offset + 1
            share.newest_ms = max(share.newest_ms, record.ingested_at_ms)
            self._sort_in(record, share, dead)
        return Taken(list(shares.values()), dead)

    def _sort_in(self, record: Received, share: Share, dead: list[Outgoing]) -> None:
        topic, kind = SOURCES[record.topic]
        num_kinds_mended = len(self.mended)
        is_answered = share.partition.positions.is_answered(topic.name, record.offset)
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
            app=STREAMS_APP,
            now_ms=self._clock(),
        )
