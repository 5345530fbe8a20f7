"""Define every topic: its name, key, struct, cleanup policy, producers and consumers.

All user-keyed topics have the same number of partitions (co-partitioned), so that one
worker sees everything of one user. `nextwatch topics` creates these on any Kafka.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from contract.wire import events

OUR_PROCESSES = frozenset({"streams", "trainer", "index_sync"})
OUR_COMMANDS = frozenset({"batch"})
"""Commands of `nextwatch` that produce what the processes consume."""

STREAMS_APP = "nextwatch-streams"
DAY_MS = 86_400_000

NOT_AFTER = "message.timestamp.after.max.ms"
"""Kafka 3.6 and later refuse a record whose own timestamp is so far ahead of the broker's clock."""

KeyField = Literal["user_id", "video_id", "bundle_id", "list_name"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of the contract, by default keyed by user and deleted by retention.

    ``dead_lettered_by`` is the one process that sends this topic's bad messages to
    ``<name>.dlq``; the other readers skip and count them, so that none is kept twice. ``config``
    holds settings beyond those that `contract.cluster.topic_settings` derives.
    """

    name: str
    kind: type[events.Event] | None
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    what: str
    key_field: KeyField = "user_id"
    cleanup: Literal["delete", "compact"] = "delete"
    dead_lettered_by: str | None = None
    max_value_bytes: int = 65_536
    config: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_from_outside(self) -> bool:
        """Whether other applications write here, so that small faults are repaired."""
        ours = OUR_PROCESSES | OUR_COMMANDS
        return bool(self.producers) and not ours.intersection(self.producers)

    @property
    def dlq(self) -> str:
        """The name of the dead-letter topic beside this one."""
        return f"{self.name}.dlq"


WATCH_EVENTS = Topic(
    "watch-events",
    events.Watch,
    ("players",),
    ("streams", "trainer"),
    "what users watched, and for how long",
    dead_lettered_by="streams",
)
SEARCH_EVENTS = Topic(
    "search-events",
    events.Search,
    ("players",),
    ("streams", "trainer"),
    "what users searched for",
    dead_lettered_by="streams",
)
IMPRESSIONS = Topic(
    "impressions",
    events.Impressions,
    ("players",),
    ("streams", "trainer"),
    "what was shown, watched or not",
    dead_lettered_by="trainer",
)
RECOMMENDATION_REQUESTS = Topic(
    "recommendation-requests",
    events.RecommendationRequest,
    ("players",),
    ("streams",),
    "asks for a list without an event; answered on recommendations, the request named in caused_by",
    dead_lettered_by="streams",
)
VIDEO_UPLOADS = Topic(
    "video-uploads",
    events.VideoUpload,
    ("creators",),
    ("index_sync", "trainer", "streams"),
    "videos that may be recommended; a tombstone takes one down",
    key_field="video_id",
    cleanup="compact",
    dead_lettered_by="index_sync",
)
RECOMMENDATIONS = Topic(
    "recommendations",
    events.Recommendation,
    ("streams",),
    ("players",),
    "the answer to accepted events and requests, named in caused_by; no value: this user was erased, forget them",
    max_value_bytes=262_144,
)
RANKING_LOG = Topic(
    "ranking-log",
    events.RankingLog,
    ("streams",),
    ("trainer",),
    "the exact features of the recommended videos, for the trainer of the ranker",
    max_value_bytes=262_144,
)
ITEM_VECTORS = Topic(
    "item-vectors",
    events.ItemVector,
    ("trainer", "index_sync"),
    ("index_sync", "streams"),
    "vectors and ranking features of each video, with their generation",
    key_field="video_id",
    cleanup="compact",
    dead_lettered_by="index_sync",
)
MODEL_BUNDLES = Topic(
    "model-bundles",
    events.BundleAnnouncement,
    ("trainer", "index_sync", "streams"),
    ("index_sync", "streams", "trainer", "console"),
    "offered by the trainer, indexed by index_sync, in service by streams, withdrawn by the trainer "
    "or an operator; no value: "
    "forget this bundle, it is neither in service nor will be",
    key_field="bundle_id",
    cleanup="compact",
    dead_lettered_by="index_sync",
)
SIMILAR_VIDEOS = Topic(
    "similar-videos",
    events.SimilarVideos,
    ("batch",),
    ("streams",),
    "for each video those that are watched after it or are like it; from `nextwatch batch similar`",
    key_field="video_id",
    cleanup="compact",
)
HOTTEST_VIDEOS = Topic(
    "hottest-videos",
    events.HottestVideos,
    ("batch",),
    ("streams",),
    "the most watched videos, of all, of a country and of a category; from `nextwatch batch hottest`",
    key_field="list_name",
    cleanup="compact",
)
USER_DELETIONS = Topic(
    "user-deletions",
    events.UserDeletion,
    ("the operator",),
    ("streams", "trainer"),
    "erase this user everywhere",
    dead_lettered_by="streams",
)
WINDOWS = Topic(
    f"{STREAMS_APP}-windows",
    None,
    ("streams",),
    ("streams", "trainer"),
    "changelog: each user's history window as a binary record (models/history/codec.py), and erasure markers",
    cleanup="compact",
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
    SIMILAR_VIDEOS,
    HOTTEST_VIDEOS,
    USER_DELETIONS,
    WINDOWS,
)

BY_NAME: Mapping[str, Topic] = {topic.name: topic for topic in TOPICS}


@dataclass(frozen=True, slots=True)
class Layout:
    """The name prefix and the partition counts of the topics on one cluster."""

    prefix: str = ""
    user_partitions: int = 8
    video_partitions: int = 4

    @property
    def streams_group(self) -> str:
        """The consumer group of streams, with the prefix of this deployment."""
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
