"""Watches of many users, the windows they must make, and what a client reads of both.

The windows are computed by `benchmarks.windows.oracle`, from the events alone.
"""

import random

import msgspec

from benchmarks.stack.waiting import eventually
from benchmarks.windows import oracle
from contract.wire.events import Watch
from tests.support.builders import T0, event_id


def events(number_of_events, seed=7):
    """Yield watches of many users with few events and a few with many, some repeated."""
    rng = random.Random(seed)
    for number in range(number_of_events):
        user = f"heavy{number % 3}" if number % 5 == 0 else f"light{rng.randrange(2_500)}"
        yield {
            "event_id": event_id(f"{seed}/{number}"),
            "user_id": user,
            "video_id": f"v{rng.randrange(300)}",
            "event_time_ms": T0 + rng.randrange(1_000_000),
            "watch_ms": 1_000,
            "duration_ms": 30_000,
        }


def expected_windows(produced):
    """Return the window of each user by the events alone, sharing no code with the worker."""
    return oracle.expected(msgspec.convert(event, Watch) for event in produced)


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
