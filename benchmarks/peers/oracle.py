"""Compare the windows in a peer's changelog with what they must be by the events alone.

So that nobody wins by dropping events, or by losing what a crash would need. Works on the
windows to start with and on `watch-events` as the broker holds it; shares no code with any
contestant but the reader of window records.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec

from benchmarks.peers.changelogs import PeerChangelog
from benchmarks.windows.oracle import newest_watches, watches_in
from benchmarks.windows.reading import read_all
from contract.process.settings import KafkaSettings
from contract.wire.topics import WATCH_EVENTS
from models.history import codec as history_codec

Entry = tuple[int, str, str, int, int]
"""Event time, event id, video, watched and whole duration, times in milliseconds."""

MAX_AGE_MS = 30 * 86_400_000


def num_wrong(kafka: KafkaSettings, seeds: Mapping[str, bytes], changelog: PeerChangelog) -> int:
    """Return how many users of those who watched something have another window than they must."""
    expected = _expected(kafka, seeds)
    found: dict[str, list[Entry]] = {}
    for message in read_all(kafka, [changelog.topic_on(kafka.layout)]):
        key, value = message.key(), message.value()
        if key and value:
            found[changelog.user_of(key)] = entries(value)
    return sum(found.get(user_id) != window for user_id, window in expected.items())


def entries(record: bytes) -> list[Entry]:
    """Return the watches in a window record, earlier ones of the same video too, oldest first."""
    return [
        (
            watch.event_time_ms,
            watch.event_id.hex(),
            watch.video_id,
            watch.watch_ms,
            watch.duration_ms,
        )
        for watch in watches_in(history_codec.decode(record))
    ]


def window(before: list[Entry], events: list[dict[str, Any]]) -> list[Entry]:
    """Return the window of somebody who had *before* and to whom *events* happened."""
    happened = {
        (
            event["event_time_ms"],
            event["event_id"].replace("-", ""),
            event["video_id"],
            event["watch_ms"],
            event["duration_ms"],
        )
        for event in events
    }
    newest = newest_watches({*before, *happened})
    return [entry for entry in newest if entry[0] > newest[-1][0] - MAX_AGE_MS]


def _expected(kafka: KafkaSettings, seeds: Mapping[str, bytes]) -> dict[str, list[Entry]]:
    events: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for message in read_all(kafka, [kafka.layout.name(WATCH_EVENTS)]):
        event = msgspec.json.decode(message.value() or b"")
        events[event["user_id"]].append(event)
    return {user: window(entries(seeds[user]), mine) for user, mine in events.items()}
