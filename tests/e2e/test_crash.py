"""A streams worker is killed in mid-stream; the windows come out as if it had not been."""

import itertools
import random

import pytest

from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from benchmarks.windows.oracle import drawn
from benchmarks.windows.reading import kept_windows
from tests.support.oracle import all_answered, events, expected_windows, published_windows
from tests.support.stacks import running_stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

NUM_EVENTS = 6_000


def test_windows_after_kill_9_equal_those_of_an_undisturbed_run():
    """Nothing lost, nothing applied twice, and the changelog holds the very same bytes."""
    produced = list(events(NUM_EVENTS))
    repeats = random.Random(1).sample(produced, 300)
    # one answer for each event: what a batch coalesces depends on when the kill came
    each = {"streams": {"NEXTWATCH_STREAMS_COALESCE": "false"}}
    with (
        running_stack("embedded", processes=("streams",), env_of=each) as stack,
        player_of(stack) as player,
    ):
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
        assert eventually(lambda: all_answered(player, wanted), within_s=60)
        ids = {}
        for answer in player.recommendations():
            for event in answer["caused_by"]:
                ids.setdefault(event, set()).add(answer["recommendation_id"])
        published = published_windows(player)
        worker.stop(8)
        local = kept_windows([stack.directory / "streams"], stack.kafka)

    assert 0 < answered_before < NUM_EVENTS // 2, "the kill did not come in mid-stream"
    assert {user: drawn(record) for user, record in local.items()} == expected_windows(produced)
    assert local == published
    assert all(len(found) == 1 for found in ids.values()), "a repeat had another id"
