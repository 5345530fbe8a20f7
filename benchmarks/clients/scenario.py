"""The scenario of every client: upload, watch, read the recommendation that names the watch.

Two videos are uploaded and one of them is watched, again and again, until a recommendation
holds the other: so the upload arrived, too.
"""

from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol
from uuid import uuid4

from contract.process.clock import system_clock

Fields = dict[str, Any]

TIMEOUT_S = 60.0
_ANSWER_WITHIN_S = 3.0
_DURATION_MS = 30_000


class Client(Protocol):
    """A producer and a consumer of `recommendations`, which has joined before it is given."""

    def produce(self, topic: str, key: str, fields: Fields) -> None:
        """Produce one JSON message, and wait until it is acknowledged."""

    def receive(self, within_s: float) -> Fields | None:
        """Return the next recommendation, or None when none came *within_s*."""

    def close(self) -> None:
        """End both."""


class ClientFailed(Exception):  # noqa: N818 - as the report says it
    """A client failed; the message is its own."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The recommendation that was waited for, and how long after its watch it was read."""

    answer_ms: float


def converse(client: Client) -> Heard:
    """Upload two videos with *client*, watch one, and wait for the other to be recommended.

    Raises:
        ClientFailed: it was not within `TIMEOUT_S`.
    """
    run = uuid4().hex[:8]
    videos = [f"{run}-{number}" for number in (1, 2)]
    for video_id in videos:
        client.produce("video-uploads", video_id, _upload(video_id, category=run))
    deadline_s = monotonic() + TIMEOUT_S
    num_answers = 0
    while monotonic() < deadline_s:
        watch = _watch(f"user-{run}", videos[0])
        sent_s = monotonic()
        client.produce("watch-events", watch["user_id"], watch)
        answer = _answer_to(watch["event_id"], client)
        if answer is not None:
            num_answers += 1
            if videos[1] in [item["video_id"] for item in answer["items"]]:
                return Heard(round((monotonic() - sent_s) * 1000, 1))
    raise ClientFailed(f"{num_answers} recommendations within {TIMEOUT_S:.0f} s, none of its video")


def _answer_to(event_id: str, client: Client) -> Fields | None:
    deadline_s = monotonic() + _ANSWER_WITHIN_S
    while (left_s := deadline_s - monotonic()) > 0:
        answer = client.receive(left_s)
        if answer is not None and event_id in answer["caused_by"]:
            return answer
    return None


def _upload(video_id: str, *, category: str) -> Fields:
    return {
        "video_id": video_id,
        "title": f"The {category} of {video_id}",
        "channel_id": f"channel-{category}",
        "category": category,
        "duration_ms": _DURATION_MS,
        "uploaded_at_ms": system_clock(),
    }


def _watch(user_id: str, video_id: str) -> Fields:
    return {
        "event_id": str(uuid4()),
        "user_id": user_id,
        "video_id": video_id,
        "event_time_ms": system_clock(),
        "watch_ms": _DURATION_MS,
        "duration_ms": _DURATION_MS,
    }
