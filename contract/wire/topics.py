"""Every topic of the system: name, key, struct, cleanup, and who writes and reads it.

All user-keyed topics have the same number of partitions (co-partitioned), so that one
worker sees everything of one user. `nextwatch topics` creates these on any Kafka.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from contract.wire import events

OUR_PROCESSES = frozenset({"streams", "trainer", "index_sync"})
STREAMS_APP = "nextwatch-streams"
DAY_MS = 86_400_000

NOT_AFTER = "message.timestamp.after.max.ms"
"""Kafka 3.6 and later refuse a record whose own timestamp is so far ahead of the broker's clock."""

KeyField = Literal["user_id", "video_id", "bundle_id"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic, as the contract wants it.

    ``dead_lettered_by`` is the one process that sends this topic's bad messages to
    ``<name>.dlq``; the other readers skip and count them, so that none is kept twice.
    """

    name: str
    key_field: KeyField
    cleanup: Literal["delete", "compact"]
    kind: type[events.Event] | None
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    what: str
    dead_lettered_by: str | None = None
    max_value_bytes: int = 65_536
    config: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_from_outside(self) -> bool:
        """Whether others than our own processes write here: then small faults are mended."""
        return bool(self.producers) and not OUR_PROCESSES.intersection(self.producers)

    @property
    def dlq(self) -> str:
        """The name of the dead-letter topic beside this one."""
        return f"{self.name}.dlq"


_FROM_CLOCKS_OF_OTHERS = {NOT_AFTER: str(events.MAX_AHEAD_MS)}

WATCH_EVENTS = Topic(
    "watch-events",
    "user_id",
    "delete",
    events.Watch,
    ("players",),
    ("streams", "trainer"),
    "what users watched, and for how long",
    dead_lettered_by="streams",
    config=_FROM_CLOCKS_OF_OTHERS,
)
SEARCH_EVENTS = Topic(
    "search-events",
    "user_id",
    "delete",
    events.Search,
    ("players",),
    ("streams", "trainer"),
    "what users searched for",
    dead_lettered_by="streams",
    config=_FROM_CLOCKS_OF_OTHERS,
)
IMPRESSIONS = Topic(
    "impressions",
    "user_id",
    "delete",
    events.Impressions,
    ("players",),
    ("streams", "trainer"),
    "what was shown, watched or not",
    dead_lettered_by="trainer",
    config=_FROM_CLOCKS_OF_OTHERS,
)
RECOMMENDATION_REQUESTS = Topic(
    "recommendation-requests",
    "user_id",
    "delete",
    events.RecommendationRequest,
    ("players",),
    ("streams",),
    "asks for a list without an event; answered on recommendations, the request named in caused_by",
    dead_lettered_by="streams",
    config=_FROM_CLOCKS_OF_OTHERS,
)
VIDEO_UPLOADS = Topic(
    "video-uploads",
    "video_id",
    "compact",
    events.VideoUpload,
    ("creators",),
    ("index_sync", "trainer", "streams"),
    "videos that may be recommended; a tombstone takes one down",
    dead_lettered_by="index_sync",
    config=_FROM_CLOCKS_OF_OTHERS,
)
RECOMMENDATIONS = Topic(
    "recommendations",
    "user_id",
    "delete",
    events.Recommendation,
    ("streams",),
    ("players",),
    "the answer to accepted events and requests, named in caused_by; no value: this user was erased, forget them",
    max_value_bytes=262_144,
)
RANKING_LOG = Topic(
    "ranking-log",
    "user_id",
    "delete",
    events.RankingLog,
    (),
    (),
    "not produced yet: the exact features of the recommended videos",
    max_value_bytes=262_144,
)
ITEM_VECTORS = Topic(
    "item-vectors",
    "video_id",
    "compact",
    events.ItemVector,
    ("trainer", "index_sync"),
    ("index_sync", "streams"),
    "vectors and ranking features of each video, with their generation",
    dead_lettered_by="index_sync",
)
MODEL_BUNDLES = Topic(
    "model-bundles",
    "bundle_id",
    "compact",
    events.BundleAnnouncement,
    ("trainer", "index_sync", "streams"),
    ("index_sync", "streams", "trainer", "console"),
    "offered by the trainer, indexed by index_sync, in service or withdrawn by streams; no value: "
    "forget this bundle, it is neither in service nor will be",
    dead_lettered_by="index_sync",
)
USER_DELETIONS = Topic(
    "user-deletions",
    "user_id",
    "delete",
    events.UserDeletion,
    ("the operator",),
    ("streams", "trainer"),
    "erase this user everywhere",
    dead_lettered_by="streams",
    config=_FROM_CLOCKS_OF_OTHERS,
)
WINDOWS = Topic(
    f"{STREAMS_APP}-windows",
    "user_id",
    "compact",
    None,
    ("streams",),
    ("streams", "trainer"),
    "changelog: each user's history window as a binary record (models/history/codec.py), and seals",
    max_value_bytes=98_304,
    config={"delete.retention.ms": str(7 * DAY_MS)},
)

TOPICS: tuple[Topic, ...] = (
    WATCH_EVENTS,
    SEARCH_EVENTS,
    IMPRESSIONS,
    RECOMMENDATION_REQUESTS,
    VIDEO_UPLOADS,
    RECOMMENDATIONS,
    RANKING_LOG,
    ITEM_VECTORS,
    MODEL_BUNDLES,
    USER_DELETIONS,
    WINDOWS,
)

BY_NAME: Mapping[str, Topic] = {topic.name: topic for topic in TOPICS}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the topics are laid out on one cluster: name prefix and partition counts."""

    prefix: str = ""
    user_partitions: int = 8
    video_partitions: int = 4

    @property
    def streams_group(self) -> str:
        """The consumer group of streams: no other deployment on the cluster has its prefix."""
        return self.prefix + STREAMS_APP

    def name(self, topic: Topic) -> str:
        """Return the full name of *topic* on this cluster."""
        return self.prefix + topic.name

    def dlq_name(self, topic: Topic) -> str:
        """Return the full name of the dead-letter topic of *topic*."""
        return self.prefix + topic.dlq

    def num_partitions(self, topic: Topic) -> int:
        """Return the partition count of *topic*: equal for all topics of one key."""
        by_key = {"user_id": self.user_partitions, "video_id": self.video_partitions}
        return by_key.get(topic.key_field, 1)
