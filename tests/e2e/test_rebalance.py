"""A second worker joins in mid-stream and goes again; no window and no answer is lost."""

import sys

import pytest

from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from benchmarks.windows.oracle import drawn
from tests.support.oracle import all_answered, events, expected_windows, published_windows
from tests.support.stacks import running_stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180), pytest.mark.long]

NUM_EVENTS = 6_000


def second_worker(stack):
    """Start another streams worker with a state of its own; return it and its ready file."""
    ready = stack.directory / "second-ready"
    env = {
        "NEXTWATCH_STREAMS_STATE_DIR": str(stack.directory / "second"),
        "NEXTWATCH_PROCESS_READY_FILE": str(ready),
    }
    return stack.add_process("second", (sys.executable, "-m", "streams"), env), ready


@pytest.mark.parametrize("leave", ["terminate", "kill"])
def test_partitions_move_to_a_second_worker_and_back(leave):
    """Orderly or by SIGKILL: every event is answered, every window is whole.

    events   first third     second third       last third
    first    [ all of them ][ half of them    ][ all of them ]
    second                  [ half of them    ]x
    """
    produced = list(events(NUM_EVENTS))
    third = NUM_EVENTS // 3
    with running_stack("embedded", processes=("streams",)) as stack, player_of(stack) as player:
        for event in produced[:third]:
            player.produce("watch-events", event["user_id"], event)
        player.flush()
        worker, ready = second_worker(stack)
        for event in produced[third : 2 * third]:
            player.produce("watch-events", event["user_id"], event)
        player.flush()
        assert eventually(ready.exists, within_s=40), "the second worker got no partitions"
        getattr(worker, leave)()
        for event in produced[2 * third :]:
            player.produce("watch-events", event["user_id"], event)
        player.flush()
        wanted = {event["event_id"] for event in produced}
        assert eventually(lambda: all_answered(player, wanted), within_s=60)
        published = published_windows(player)

    assert {user: drawn(record) for user, record in published.items()} == expected_windows(produced)
