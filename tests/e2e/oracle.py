"""What the windows must be, worked out from the events alone, and where to read what they are.

Shares no code with the worker but the reader of its records.
"""

import random

from models.history import codec as history_codec
from streams.state.store import RocksMemory, RocksStore
from tests.builders import T0, event_id
from tests.e2e.clients import eventually

WINDOW = 50


def events(number_of_events, seed=7):
    """Yield watches of many users with few events and a few with many, some repeated."""
    chance = random.Random(seed)
    for number in range(number_of_events):
        user = f"heavy{number % 3}" if number % 5 == 0 else f"light{chance.randrange(2_500)}"
        yield {
            "event_id": event_id(f"{seed}/{number}"),
            "user_id": user,
            "video_id": f"v{chance.randrange(300)}",
            "event_time_ms": T0 + chance.randrange(1_000_000),
            "watch_ms": 1_000,
            "duration_ms": 30_000,
        }


def expected_windows(produced):
    """Work the windows out from the events alone, sharing no code with the worker."""
    by_user = {}
    for event in produced:
        entry = (event["event_time_ms"], event["event_id"].replace("-", ""), event["video_id"])
        by_user.setdefault(event["user_id"], set()).add(entry)
    return {user: _window(sorted(entries)) for user, entries in by_user.items()}


def _window(in_order):
    """Return the newest watch of the newest videos, with the newest watches of all."""
    newest = {entry[2]: entry for entry in in_order}
    return sorted({*sorted(newest.values())[-WINDOW:], *in_order[-WINDOW:]})


def drawn(record):
    """Return a window record as `expected_windows` writes it."""
    window = history_codec.decode(record)
    watches = sorted(window.watches + window.repeats)
    return [(w.event_time_ms, w.event_id.hex(), w.video_id) for w in watches]


def local_windows(stack):
    """Return what the stopped worker's stores hold, by user."""
    found = {}
    for number in range(stack.kafka.user_partitions):
        store = RocksStore(stack.directory / "streams" / str(number), RocksMemory.of(8))
        found |= dict(store.scan())
        store.close()
    return found


def published_windows(player):
    """Return the last record of each user in the changelog."""
    found = {}
    for message in eventually(lambda: _read_all(player, "nextwatch-streams-windows")):
        found[message.key().decode()] = message.value()
    return found


def _read_all(player, topic):
    before = -1
    while len(player.poll(topic)) > before:
        before = len(player.read[topic])
    return player.read[topic]


def all_answered(player, wanted):
    """Return whether every event id of *wanted* caused a recommendation by now."""
    return wanted <= {e for answer in player.recommendations() for e in answer["caused_by"]}
