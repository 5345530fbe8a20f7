"""Keep what the topics hold about one recommendation, and nothing about anybody else.

Topics are read twice: once for the recommendation, which names its user, then the partitions of
this user and the small topics that everybody shares. What breaks the contract is counted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from contract.bundle_log import BundleLog
from contract.errors import DecodeError
from contract.kafka.records import Position, Received
from contract.wire.decoding import check_place, decode, tombstone_id
from contract.wire.events import (
    BundleAnnouncement,
    Event,
    Impressions,
    RankingLog,
    Recommendation,
    RecommendationRequest,
    Search,
    UserDeletion,
    VideoUpload,
    Watch,
)
from contract.wire.keys import partition_of
from contract.wire.topics import (
    BY_NAME,
    IMPRESSIONS,
    MODEL_BUNDLES,
    RANKING_LOG,
    RECOMMENDATION_REQUESTS,
    RECOMMENDATIONS,
    SEARCH_EVENTS,
    USER_DELETIONS,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
    WINDOWS,
    Layout,
    Topic,
)

USER_TOPICS = (
    *(WATCH_EVENTS, SEARCH_EVENTS, IMPRESSIONS, RECOMMENDATION_REQUESTS, USER_DELETIONS),
    *(RANKING_LOG, WINDOWS),
)
SHARED_TOPICS = (VIDEO_UPLOADS, MODEL_BUNDLES)
READ_TOPICS = (RECOMMENDATIONS, *USER_TOPICS, *SHARED_TOPICS)

UserEvent = Watch | Search | Impressions | UserDeletion | RecommendationRequest


@dataclass(frozen=True, slots=True)
class Delivered:
    """The recommendation, where it lies, and how often it was delivered."""

    recommendation: Recommendation
    partition: int
    offset: int
    num_deliveries: int = 1


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """One event of the user with its place on its topic."""

    topic: str
    partition: int
    offset: int
    event: UserEvent


@dataclass(slots=True)
class Evidence:
    """What is kept about one recommendation."""

    delivered: Delivered
    events: list[KeptEvent] = field(default_factory=list)
    ranking_log: RankingLog | None = None
    window_record: bytes | None = None
    is_window_known: bool = False
    uploads: dict[str, VideoUpload] = field(default_factory=dict)
    taken_down: set[str] = field(default_factory=set)
    bundles: BundleLog = field(default_factory=BundleLog)
    unreadable: Counter[str] = field(default_factory=Counter)

    @property
    def user_id(self) -> str:
        """The user who got the recommendation."""
        return self.delivered.recommendation.user_id

    def is_wanted(self, at: Position, layout: Layout) -> bool:
        """Return whether the partition *at* may have something of this user, or is shared."""
        topic = BY_NAME[at.topic]
        if topic.key_field != "user_id":
            return True
        return at.partition == partition_of(self.user_id.encode(), layout.num_partitions(topic))

    def take(self, record: Received) -> None:
        """Keep one record if it says something about the recommendation."""
        topic = BY_NAME[record.topic]
        if topic.key_field == "user_id" and record.key != self.user_id.encode():
            return
        if topic is WINDOWS:
            self.window_record, self.is_window_known = record.value, True
            return
        try:
            self._take(topic, record)
        except DecodeError as error:
            self.unreadable[f"{topic.name}:{error.reason}"] += 1

    def _take(self, topic: Topic, record: Received) -> None:
        if record.value is None:
            self._take_tombstone(topic, record)
            return
        event = _decoded(topic, record)
        match event:
            case VideoUpload():
                self.uploads[event.video_id] = event
                self.taken_down.discard(event.video_id)
            case BundleAnnouncement():
                self.bundles.apply(event)
            case RankingLog():
                if event.recommendation_id == self.delivered.recommendation.recommendation_id:
                    self.ranking_log = event
            case Watch() | Search() | Impressions() | UserDeletion() | RecommendationRequest():
                kept = KeptEvent(topic.name, record.partition, record.offset, event)
                self.events.append(kept)

    def _take_tombstone(self, topic: Topic, record: Received) -> None:
        if topic is VIDEO_UPLOADS:
            self.taken_down.add(tombstone_id(record.key, record.headers))
        elif topic is MODEL_BUNDLES:
            self.bundles.forget(tombstone_id(record.key, record.headers))


def find(records: Iterable[Received], recommendation_id: str) -> Delivered | None:
    """Return the newest delivery of a recommendation among *records* of its topic, None if none.

    Only records that have the id in them are decoded.
    """
    wanted, found = recommendation_id.encode(), None
    for recommendation, record in _recommendations(records, wanted):
        if recommendation.recommendation_id == recommendation_id:
            count = found.num_deliveries + 1 if found else 1
            found = Delivered(recommendation, record.partition, record.offset, count)
    return found


def _recommendations(
    records: Iterable[Received], wanted: bytes
) -> Iterator[tuple[Recommendation, Received]]:
    for record in records:
        if record.value is None or wanted not in record.value:
            continue
        try:
            event = _decoded(RECOMMENDATIONS, record)
        except DecodeError:
            continue
        assert isinstance(event, Recommendation)
        yield event, record


def _decoded(topic: Topic, record: Received) -> Event:
    assert topic.kind is not None
    assert record.value is not None
    event = decode(topic, topic.kind, record.key, record.value, record.headers)
    check_place(record, event)
    return event
