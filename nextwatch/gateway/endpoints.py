"""List the endpoints: what each takes and answers. Routes and OpenAPI document come from here.

Events and answers of the contract are named by their structs, never described again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from contract.wire.events import (
    Country,
    EventId,
    HottestVideos,
    Id,
    Label,
    Recommendation,
    SimilarVideo,
    TimeMs,
)
from contract.wire.schemas import schema_of
from contract.wire.topics import (
    IMPRESSIONS,
    SEARCH_EVENTS,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
    Topic,
)

DEFAULT_WAIT_MS = 1_000
DEFAULT_NUMBER = 20
MOST_VIDEOS = 200
WINDOWS = ("1h", "24h", "7d")
DEFAULT_WINDOW = "24h"
ANSWERS_EVENT = "Nextwatch-Answers-Event"
EVENT_STREAM = "text/event-stream"

Mended = Annotated[
    list[str],
    Meta(description="what was left out, cut or rounded, as `dropped:context.country`"),
]


class EventAccepted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The event is in Kafka. `recommendations` is where its answer can be waited for."""

    event_id: EventId
    recommendations: str | None = None
    mended: Mended = []


class VideoAccepted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The upload, or the taking down, of this video is in Kafka."""

    video_id: Id
    mended: Mended = []


class SimilarAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The videos most similar to one, the best first.

    `source` is `similar-videos` for a list that a batch job has published, with its time, and
    `item-index` for the nearest vectors of the generation in service.
    """

    video_id: Id
    source: Literal["similar-videos", "item-index"]
    videos: Annotated[list[SimilarVideo], Meta(max_length=MOST_VIDEOS)]
    updated_at_ms: TimeMs | None = None


class Alive(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the process works; with the reason when it does not."""

    alive: bool
    reason: str | None = None


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Whether requests can be answered, and by part the reason why not."""

    ready: bool
    reasons: dict[str, str]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the path or in the query; the path's are all required."""

    name: str
    what: str
    schema: Mapping[str, Any]
    where: Literal["path", "query"] = "query"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method on one path. With a *topic* the body is an event of it.

    One that *is_open* needs no API key; one that *is_of_process* tells of the gateway itself.
    """

    name: str
    method: Literal["GET", "POST", "DELETE"]
    path: str
    what: str
    status: int
    answer: type[msgspec.Struct] | None
    topic: Topic | None = None
    parameters: tuple[Parameter, ...] = ()
    problems: tuple[int, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    is_open: bool = False
    is_of_process: bool = False


_ID = {"$ref": "#/components/schemas/Id"}
_USER = Parameter("user_id", "the user, percent-encoded", _ID, "path")
_VIDEO = Parameter("video_id", "the video, percent-encoded", _ID, "path")
_EVENT = Parameter(
    "event_id",
    "of a watch, a search or a request: wait for the list that it caused, or a later one",
    {"$ref": "#/components/schemas/EventId"},
)
_NUMBER = Parameter(
    "number",
    "how many videos, at most",
    {"type": "integer", "minimum": 1, "maximum": MOST_VIDEOS, "default": DEFAULT_NUMBER},
)
_SENDING = (400, 408, 413, 415, 422, 503)


def endpoints(*, max_wait_ms: int) -> tuple[Endpoint, ...]:
    """Return all endpoints of a gateway that waits for at most *max_wait_ms*."""
    wait = Parameter(
        "wait_ms",
        f"how long to wait for a list, in milliseconds; more than {max_wait_ms:,} is cut to that",
        {"type": "integer", "minimum": 0, "default": min(DEFAULT_WAIT_MS, max_wait_ms)},
    )
    return (
        _event("post_watch", "/v1/events/watch", "Tell that a user watched a video", WATCH_EVENTS),
        _event("post_search", "/v1/events/search", "Tell that a user searched", SEARCH_EVENTS),
        _event(
            "post_impressions", "/v1/events/impressions", "Tell what a player showed", IMPRESSIONS
        ),
        Endpoint(
            "post_video",
            "POST",
            "/v1/videos",
            "Upload a video, or replace what is known of it",
            202,
            VideoAccepted,
            VIDEO_UPLOADS,
            problems=_SENDING,
        ),
        Endpoint(
            "delete_video",
            "DELETE",
            "/v1/videos/{video_id}",
            "Take a video down; one that is not there, too",
            202,
            VideoAccepted,
            parameters=(_VIDEO,),
            problems=(422, 503),
        ),
        Endpoint(
            "get_recommendations",
            "GET",
            "/v1/users/{user_id}/recommendations",
            "The latest list of a user. A user without one is given one: that changes nothing",
            200,
            Recommendation,
            parameters=(_USER, _EVENT, wait),
            problems=(404, 422, 503),
            headers={
                ANSWERS_EVENT: "with event_id: `true` if this list is the answer to that event or "
                "a later one; `false` if none came in time, and this is the latest before it"
            },
        ),
        Endpoint(
            "follow_recommendations",
            "GET",
            "/v1/users/{user_id}/recommendations/stream",
            "Server-sent events: the latest list of a user, and then each new one",
            200,
            None,
            parameters=(_USER,),
            problems=(422, 503),
            media_type=EVENT_STREAM,
        ),
        Endpoint(
            "get_similar",
            "GET",
            "/v1/videos/{video_id}/similar",
            "The videos most similar to one",
            200,
            SimilarAnswer,
            parameters=(_VIDEO, _NUMBER),
            problems=(404, 422, 503),
        ),
        Endpoint(
            "get_hottest",
            "GET",
            "/v1/hottest",
            "The most watched videos, as `nextwatch batch hottest` has published them",
            200,
            HottestVideos,
            parameters=(
                Parameter(
                    "window",
                    "the half-life of a watch",
                    {"type": "string", "enum": list(WINDOWS), "default": DEFAULT_WINDOW},
                ),
                Parameter(
                    "country",
                    "of one country (ISO 3166-1); of all where there is no list of it",
                    schema_of(Country),
                ),
                Parameter(
                    "category",
                    "of one category, without a country",
                    schema_of(Label),
                ),
                _NUMBER,
            ),
            problems=(404, 422),
        ),
        _of_process("healthz", "Whether the process works", Alive),
        _of_process("readyz", "Whether Kafka answers", Ready),
        Endpoint(
            "metrics",
            "GET",
            "/metrics",
            "What Prometheus scrapes",
            200,
            None,
            media_type="text/plain",
            is_of_process=True,
        ),
    )


def _event(name: str, path: str, what: str, topic: Topic) -> Endpoint:
    return Endpoint(name, "POST", path, what, 202, EventAccepted, topic, problems=_SENDING)


def _of_process(name: str, what: str, answer: type[msgspec.Struct]) -> Endpoint:
    return Endpoint(name, "GET", f"/{name}", what, 200, answer, is_open=True, is_of_process=True)
