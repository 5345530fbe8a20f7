"""A streams worker is killed in mid-stream; the windows come out as if it had not been."""

import itertools
import random

import pytest

from models import history_codec
from streams.store import RocksMemory, RocksStore
from tests.builders import T0, event_id
from tests.e2e.clients import eventually, player_of
from tests.e2e.stacks import running_stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

NUM_EVENTS = 6_000
WINDOW = 50


def events(seed=7):
    """Yield watches of many users with few events and a few with many, some repeated."""
    chance = random.Random(seed)
    for number in range(NUM_EVENTS):
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
    return {user: sorted(entries)[-WINDOW:] for user, entries in by_user.items()}


def drawn(record):
    """Return a window record as `expected_windows` writes it."""
    window = history_codec.decode(record)
    return [(w.event_time_ms, w.event_id.hex(), w.video_id) for w in window.watches]


def local_windows(stack):
    """Return what the stopped worker's stores hold, by user."""
    found = {}
    for number in range(stack.kafka.user_partitions):
        store = RocksStore(stack.directory / "streams" / str(number), RocksMemory.of(8))
        found |= dict(store.scan())
        store.close(now_ms=0)
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


def test_windows_after_kill_9_equal_those_of_an_undisturbed_run():
    """Nothing lost, nothing applied twice, and the changelog holds the very same bytes."""
    produced = list(events())
    repeats = random.Random(1).sample(produced, 300)
    with running_stack("embedded", processes=("streams",)) as stack, player_of(stack) as player:
        worker = stack.process("streams")
        player.recommendations()
        for event in produced[: NUM_EVENTS // 2]:
            player.produce("watch-events", event["user_id"], event)
        player.flush()
        assert eventually(lambda: len(player.recommendations()) > NUM_EVENTS // 10, every_s=0)
        worker.kill(is_wanted=True)
        answered_before = len({e for r in player.recommendations() for e in r["caused_by"]})
        for event in itertools.chain(produced[NUM_EVENTS // 2 :], repeats):
            player.produce("watch-events", event["user_id"], event)
        player.flush()
        worker.start()
        worker.wait_ready(30)
        wanted = {event["event_id"] for event in produced}
        assert eventually(
            lambda: wanted <= {e for r in player.recommendations() for e in r["caused_by"]},
            within_s=60,
        )
        ids = {}
        for answer in player.recommendations():
            for event in answer["caused_by"]:
                ids.setdefault(event, set()).add(answer["recommendation_id"])
        published = published_windows(player)
        worker.stop(8)
        local = local_windows(stack)

    assert 0 < answered_before < NUM_EVENTS // 2, "the kill did not come in mid-stream"
    assert {user: drawn(record) for user, record in local.items()} == expected_windows(produced)
    assert local == published
    assert all(len(found) == 1 for found in ids.values()), "a repeat had another id"
