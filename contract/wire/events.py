"""Define the events on the wire: one frozen struct per fact, which is never changed.

JSON objects; unknown fields are ignored, and what `contract.wire.mending` says of optional ones.
Times are epoch milliseconds and durations milliseconds, both with ``_ms`` in the name. Fields may
be added with a default; none may be removed, renamed or given a new unit. `contract.wire.topics`
says which struct lives on which topic, `contract.wire.decoding` turns bytes into these structs or
says why it cannot.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from contract.points import POINT_BYTES
from contract.wire.identifiers import (
    BUNDLE_ID_BODY,
    ID_BODY,
    ID_RULE,
    MAX_ID_BYTES,
    UUID_BODY,
    matching,
)
from contract.wire.words import ARMS, DEGRADED, SOURCES

MIN_TIME_MS = 100_000_000_000  # 1973: anything smaller is in seconds, or no time at all
MAX_TIME_MS = 99_999_999_999_999  # year 5138: anything larger is in microseconds or smaller units
MAX_AHEAD_MS = 3_600_000
"""An event may be dated so long after the clock of who reads it. An hour: that clock may be wrong,
too, and a reader whose own is slow must not refuse everybody."""
MAX_DURATION_MS = 86_400_000
FLOAT32_BYTES = 4
MAX_VECTOR_LENGTH = 1_024
MAX_FEATURES = 512
MAX_HISTORY = 300
MAX_CANDIDATES_BYTES = 131_072
"""500 candidates of 65 features; with 500 ids and in base64 it fits a record of 256 KiB."""

Id = Annotated[str, matching(ID_BODY, f"{ID_RULE}; opaque", max_length=MAX_ID_BYTES)]
EventId = Annotated[
    str,
    matching(
        ID_BODY,
        f"{ID_RULE}; a repeated delivery bears the same one. A UUID is the same in either case, "
        "with or without dashes; the nil UUID names no event",
        max_length=MAX_ID_BYTES,
    ),
]
RecommendationId = Annotated[str, matching(UUID_BODY, "a UUID")]
BundleId = Annotated[
    str, matching(BUNDLE_ID_BODY, "1 to 64 ASCII characters; it names a directory")
]
TimeMs = Annotated[int, Meta(ge=MIN_TIME_MS, le=MAX_TIME_MS, description="epoch milliseconds")]
DurationMs = Annotated[
    int,
    Meta(
        ge=0,
        le=MAX_DURATION_MS,
        description="length of the video in milliseconds (seconds cannot be told from a short video); "
        "absent, null or 0 where it is not known, as of a live stream",
    ),
]
WatchMs = Annotated[
    int, Meta(ge=0, le=MAX_DURATION_MS, description="how long it was watched, in milliseconds")
]
Label = Annotated[str, Meta(min_length=1, max_length=64)]
Country = Annotated[str, matching("[A-Z]{2}", "two capital letters (ISO 3166-1)")]
Language = Annotated[str, matching("[A-Za-z0-9-]{2,16}", "a tag such as en or pt-BR (BCP 47)")]
Sha256 = Annotated[str, matching("[0-9a-f]{64}", "SHA-256 in hexadecimal digits")]
ShortLabel = Annotated[str, Meta(min_length=1, max_length=32)]
Number = Annotated[float, Meta(ge=-1e12, le=1e12)]
Component = Annotated[float, Meta(ge=-1e6, le=1e6)]
Vector = Annotated[list[Component], Meta(min_length=1, max_length=MAX_VECTOR_LENGTH)]
MAX_GENERATION = 2**53
Generation = Annotated[int, Meta(ge=0, le=MAX_GENERATION)]


def _words(meanings: Mapping[str, str], description: str) -> Meta:
    """Return the note of a field whose words have meanings; more words may come."""
    return Meta(
        description=f"{description}; x-meanings has the words of today, more may come",
        extra_json_schema={"x-meanings": dict(meanings)},
    )


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A struct of the contract: immutable, keyword-only, defaults left out."""


class Context(Event, frozen=True, kw_only=True):
    """The place, device and group of the user of an event; all of it optional.

    ``age_group`` and ``gender`` are labels of the producer's own, the same ones in every event.
    """

    country: Country | None = None
    language: Language | None = None
    device: Label | None = None
    surface: Label | None = None
    age_group: ShortLabel | None = None
    gender: ShortLabel | None = None


class Watch(Event, frozen=True, kw_only=True):
    """The user watched a video and has now left it."""

    event_id: EventId
    user_id: Id
    video_id: Id
    event_time_ms: TimeMs
    watch_ms: WatchMs
    duration_ms: DurationMs = 0
    context: Context = Context()
    recommendation_id: Id | None = None


class Search(Event, frozen=True, kw_only=True):
    """The user searched; `query` is free text and is never logged."""

    event_id: EventId
    user_id: Id
    query: Annotated[str, Meta(min_length=1, max_length=256)]
    event_time_ms: TimeMs


class ImpressedVideo(Event, frozen=True, kw_only=True):
    """One video in one slot of what was shown, counted from 0 at the top."""

    video_id: Id
    position: Annotated[int, Meta(ge=0, le=999)]


class Impressions(Event, frozen=True, kw_only=True):
    """The videos that a player showed at one time, watched or not."""

    event_id: EventId
    user_id: Id
    event_time_ms: TimeMs
    videos: Annotated[list[ImpressedVideo], Meta(min_length=1, max_length=100)]
    recommendation_id: Id | None = None


class RecommendationRequest(Event, frozen=True, kw_only=True):
    """The user wants a list without having done anything, as on opening the app.

    `context` counts for this answer alone and is not remembered. Without `number` the list is
    as long as any other.
    """

    request_id: EventId
    user_id: Id
    event_time_ms: TimeMs
    context: Context = Context()
    number: Annotated[int, Meta(ge=1, le=500, description="how many videos, at most")] | None = None

    @property
    def event_id(self) -> str:
        """The id of the request, by the name that it has in every other event."""
        return self.request_id


class VideoUpload(Event, frozen=True, kw_only=True):
    """A video exists and may be recommended; a tombstone under its key takes it down."""

    video_id: Id
    title: Annotated[str, Meta(max_length=256)] = ""
    channel_id: Id | None = None
    category: Label | None = None
    tags: Annotated[list[Label], Meta(max_length=32)] = []
    language: Language | None = None
    duration_ms: DurationMs = 0
    uploaded_at_ms: TimeMs


class RecommendedVideo(Event, frozen=True, kw_only=True, omit_defaults=False, gc=False):
    """One video of a recommendation."""

    # gc=False: it refers to nothing that could refer back: no work for the garbage collector

    video_id: Id
    expected_watch_ms: Annotated[float, Meta(ge=0, le=MAX_DURATION_MS)]
    score: Number
    source: Annotated[Label, _words(SOURCES, "where the video came from")]
    propensity: Annotated[float, Meta(ge=0, le=1)] = 1.0


class Recommendation(Event, frozen=True, kw_only=True, omit_defaults=False):
    """The ordered list answered to the events and requests in `caused_by`.

    `recommendation_id` is a UUID derived from the user, the causing events and the bundle: a
    re-delivery bears the same one. `caused_by` has the ids of the events as their producer wrote
    them. `degraded` names what was away when it was made, or why there is nothing new in it.
    """

    recommendation_id: RecommendationId
    user_id: Id
    generated_at_ms: TimeMs
    caused_by: Annotated[list[EventId], Meta(min_length=1, max_length=10_000)]
    bundle_id: BundleId | None
    generation: Generation
    arm: Annotated[Label, _words(ARMS, "the arm of an experiment")]
    items: Annotated[list[RecommendedVideo], Meta(max_length=500)]
    degraded: Annotated[
        list[Label],
        Meta(max_length=8),
        _words(DEGRADED, "what it had to do without; empty when nothing was missing"),
    ] = []


class RankingLog(Event, frozen=True, kw_only=True):
    """The exact features of one recommendation, for the trainer of the ranker.

    Features are little-endian float32 values, in base64: `context` those of the request,
    `user_vector` that of retrieval, `candidates` one row for each of `video_ids`, row after row,
    all rows as long as another. `feature_version` says which features they are. `history` are the
    watched videos of the window, oldest first, as little-endian 64-bit point ids, and
    `history_completed` says of each whether it was completed, in one byte. `next_offsets` has
    by topic the first offset of the user's partition that the history window did not include.
    """

    recommendation_id: RecommendationId
    user_id: Id
    generated_at_ms: TimeMs
    bundle_id: BundleId | None
    generation: Generation
    feature_version: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    video_ids: Annotated[list[Id], Meta(max_length=500)]
    context: Annotated[bytes, Meta(max_length=MAX_FEATURES * FLOAT32_BYTES)]
    user_vector: Annotated[bytes, Meta(max_length=MAX_VECTOR_LENGTH * FLOAT32_BYTES)]
    candidates: Annotated[bytes, Meta(max_length=MAX_CANDIDATES_BYTES)]
    history: Annotated[bytes, Meta(max_length=MAX_HISTORY * POINT_BYTES)] = b""
    history_completed: Annotated[bytes, Meta(max_length=MAX_HISTORY)] = b""
    next_offsets: Annotated[dict[Label, Annotated[int, Meta(ge=0)]], Meta(max_length=16)] = {}

    def __post_init__(self) -> None:
        self._check_floats("context", self.context, 1)
        self._check_floats("user_vector", self.user_vector, 1)
        self._check_floats("candidates", self.candidates, len(self.video_ids))
        if len(self.history) != POINT_BYTES * len(self.history_completed):
            raise ValueError(
                f"history has {len(self.history)} bytes for {len(self.history_completed)} videos"
            )

    def _check_floats(self, name: str, values: bytes, num_rows: int) -> None:
        row_bytes = FLOAT32_BYTES * num_rows
        if len(values) % row_bytes if row_bytes else values:
            raise ValueError(
                f"the length of {name} is not that of {num_rows} equal rows of float32: "
                f"{len(values)} bytes"
            )


class Origin(StrEnum):
    """Who computed an item vector."""

    CONTENT = "content"
    TRAINING = "training"


Code = Annotated[int, Meta(ge=0, lt=2**31, description="a hash of the name, 0 where there is none")]


class RankingFeatures(Event, frozen=True, kw_only=True):
    """The ranking features of a video without its vectors.

    `popularity` and `impressions` are decayed counts, `watch_rate` is the share of impressions
    that were watched, `watch_lift` by how much it is above what the surfaces of these impressions
    have on average. The codes are hashes of what the upload says, `tag` of its first tag.
    """

    popularity: Annotated[float, Meta(ge=0, le=1e12)] = 0.0
    mean_watch_ms: Annotated[float, Meta(ge=0, le=MAX_DURATION_MS)] = 0.0
    completion_rate: Annotated[float, Meta(ge=0, le=1)] = 0.0
    duration_ms: Annotated[int, Meta(ge=0, le=MAX_DURATION_MS)] = 0
    uploaded_at_ms: Annotated[int, Meta(ge=0, le=MAX_TIME_MS)] = 0
    impressions: Annotated[float, Meta(ge=0, le=1e12)] = 0.0
    watch_rate: Annotated[float, Meta(ge=0, le=1)] = 0.0
    watch_lift: Annotated[float, Meta(ge=0, le=1e6)] = 1.0
    channel: Code = 0
    category: Code = 0
    tag: Code = 0
    language: Code = 0


class ItemVector(Event, frozen=True, kw_only=True):
    """The vectors of one video in one generation of the models; a tombstone removes the video.

    `input_vector` is read by the user tower when the video is in a history window,
    `output_vector` (unit norm) is what retrieval searches.
    """

    video_id: Id
    generation: Generation
    origin: Origin
    input_vector: Vector
    output_vector: Vector
    features: RankingFeatures = RankingFeatures()
    updated_at_ms: TimeMs


class BundleState(StrEnum):
    """The state of a bundle; the newest announcement on `model-bundles` counts."""

    OFFERED = "offered"
    INDEXED = "indexed"
    IN_SERVICE = "in_service"
    WITHDRAWN = "withdrawn"


class BundleAnnouncement(Event, frozen=True, kw_only=True):
    """One bundle reached a state; who announces which is in `contract.wire.topics`.

    Within a *revision* states only go forward. To offer a withdrawn bundle again an operator
    announces it with the next revision.
    """

    bundle_id: BundleId
    generation: Generation
    state: BundleState
    url: Annotated[str, Meta(min_length=1, max_length=1024)]
    manifest_sha256: Sha256
    announced_at_ms: TimeMs
    metrics: dict[str, Number] = {}
    reason: Annotated[str, Meta(max_length=256)] = ""
    revision: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


class SimilarVideo(Event, frozen=True, kw_only=True, omit_defaults=False):
    """One video of a list of similar ones; a higher score is more similar."""

    video_id: Id
    score: Number


class SimilarVideos(Event, frozen=True, kw_only=True):
    """The videos most similar to `video_id`, the best first; a tombstone removes the list.

    `updated_at_ms` is the time of the newest watch that it was made from.
    """

    video_id: Id
    videos: Annotated[list[SimilarVideo], Meta(max_length=200)]
    updated_at_ms: TimeMs


class HotVideo(Event, frozen=True, kw_only=True, omit_defaults=False):
    """One video of a list of the most watched; `num_watches` is a decayed count."""

    video_id: Id
    num_watches: Annotated[float, Meta(ge=0, le=1e12)]


class HottestVideos(Event, frozen=True, kw_only=True):
    """The most watched videos of one list, the first the most; a tombstone removes the list.

    A name is `hottest:WINDOW:all`, `hottest:WINDOW:country=DE` or `hottest:WINDOW:category=music`,
    where WINDOW is the half-life of a watch: `1h`, `24h` or `7d`. `updated_at_ms` is the time of
    the newest watch that was counted.
    """

    list_name: Id
    videos: Annotated[list[HotVideo], Meta(max_length=200)]
    updated_at_ms: TimeMs


class UserDeletion(Event, frozen=True, kw_only=True):
    """Erase this user everywhere; events up to `erase_before_ms` are always ignored.

    With `everywhere` it may lie on any partition: `nextwatch erase` puts a copy on each, since a
    producer with another partitioner may have left something of the user there.
    """

    user_id: Id
    requested_at_ms: TimeMs
    erase_before_ms: TimeMs
    everywhere: bool = False


def encode(event: Event) -> bytes:
    """Return the JSON that goes on the wire."""
    return _ENCODER.encode(event)


_ENCODER = msgspec.json.Encoder()
