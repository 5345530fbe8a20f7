"""Reports on the contract: which identifiers and values are accepted.

And where strictness protects the meaning, it is kept.
"""

import uuid
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.reports.row import Row
from benchmarks.reports.stage import Seen, Stage, reason_of
from contract.process.clock import system_clock

USERS = (
    *("auth0|5f7c8ec7c33c6c004bbafe82", "o'brien", "Zoë", "用户1", "google-oauth2|10769150350006"),
    *("facebook:1234", "a@example.org", "+4915112345678", "user 1", "x" * 128),
)
VIDEOS = ("-wtIMTCHWuI", "--xQz0vN3dA", "_2xFjp0aB1c", "видео-1", "clip/2024/07", "😀")
EVENT_IDS = (
    *("0123456789abcdef0123456789abcdef", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "evt_1a2b3c4d5e"),
    *("msg-000000001", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "web:2024-07-01:17"),
)


def _event(**fields: Any) -> dict[str, Any]:
    event = {
        "event_id": str(uuid.uuid4()),
        "user_id": "u1",
        "video_id": "v1",
        "event_time_ms": system_clock(),
        "watch_ms": 12_000,
        "duration_ms": 30_000,
    }
    return {name: value for name, value in (event | fields).items() if value is not ...}


def _answered(events: Iterable[dict[str, Any]]) -> Callable[[Stage], Seen]:
    """Return what sends *events* and wants an answer to each, and no dead letter."""

    def replay(stage: Stage) -> Seen:
        stage.streams()
        sent = [{**event, "event_time_ms": system_clock()} for event in events]
        for event in sent:
            stage.player.produce("watch-events", event["user_id"], event)
        answered = stage.num_answered(event["event_id"] for event in sent)
        letters = stage.letters("watch-events", 1, within_s=0.5)
        reasons = sorted(reason_of(letter) for letter in letters)
        text = f"{answered} of {len(sent)} answered, dead letters {reasons}"
        return Seen(answered == len(sent) and not letters, text)

    return replay


def without_category(stage: Stage) -> Seen:
    """Uploads with neither category, tags nor title, by null and by absence."""
    sync = stage.process("index_sync")
    sync.wait_ready(60)
    known = {"video_id": "v1", "uploaded_at_ms": system_clock(), "duration_ms": 30_000}
    stage.player.produce("video-uploads", "v1", known | {"title": "soup"})
    stage.player.produce(
        "video-uploads", "v2", known | {"video_id": "v2", "title": None, "tags": None}
    )
    stage.player.produce("video-uploads", "bad", b"no JSON")
    stage.player.flush()
    letters = stage.letters("video-uploads", 1)
    keys = [(letter.key() or b"").decode() for letter in letters]
    return Seen(keys == ["bad"], f"dead letters of {keys}, and only the one without JSON is bad")


def strictness(stage: Stage) -> Seen:
    """What would change the meaning: seconds for milliseconds, numbers as strings, another key."""
    stage.streams()
    now_ms = system_clock()
    bad = {
        "seconds": _event(event_time_ms=now_ms // 1_000),
        "number as string": _event(watch_ms="12000"),
        "negative": _event(watch_ms=-1),
        "no id": _event(event_id=...),
        "no video": _event(video_id=None),
        "other key": _event(user_id="u2"),
    }
    for event in bad.values():
        stage.player.produce("watch-events", "u1", event)
    good = stage.num_answered({stage.player.watch("u1", "v1")})
    letters = stage.letters("watch-events", len(bad))
    reasons = sorted(reason_of(letter) for letter in letters)
    text = f"{len(letters)} of {len(bad)} are dead letters: {', '.join(reasons)}"
    return Seen(len(letters) == len(bad) and good == 1, text)


ROWS = (
    Row("5.1", "user ids", _answered([_event(user_id=user) for user in USERS])),
    Row("5.2", "video ids", _answered([_event(video_id=video) for video in VIDEOS])),
    Row("5.3", "event ids", _answered([_event(event_id=name) for name in EVENT_IDS])),
    Row("5.4", "live streams", _answered([_event(duration_ms=...), _event(duration_ms=None)])),
    Row("5.5", "watched for longer than it lasts", _answered([_event(watch_ms=95_000)])),
    Row(
        "5.6",
        "fractions of milliseconds",
        _answered([_event(watch_ms=12_000.7, duration_ms=30_000.2)]),
    ),
    Row(
        "5.7",
        "null for what is optional",
        _answered([_event(context=None), _event(context={"country": None, "device": None})]),
    ),
    Row("5.8", "uploads without a category", without_category),
    Row("5.9", "what is refused all the same", strictness),
)
