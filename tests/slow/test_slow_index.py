"""An index that stands still most of the time slows new generations down and stops none."""

import json
import os
import signal
import time
from contextlib import contextmanager, suppress
from threading import Event, Thread

import pytest

from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from tests.support.stacks import running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FROZEN_FOR_S = 60.0
EXPECTED_GENERATIONS = 5
FROZEN_S, AWAKE_S = 2.3, 0.25
NUM_VIDEOS = 400
VIDEOS_OF_A_USER = 20
"""New users come all the time: who watches the same videos again teaches the trainer nothing."""


@contextmanager
def freezing(pid):
    """Let the process *pid* run for a tenth of the time only."""
    is_over = Event()

    def freeze():
        while not is_over.is_set():
            os.kill(pid, signal.SIGSTOP)
            is_over.wait(FROZEN_S)
            os.kill(pid, signal.SIGCONT)
            is_over.wait(AWAKE_S)

    thread = Thread(target=freeze, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def generations(player, state):
    """Return the generations that have reached *state*."""
    said = [json.loads(m.value()) for m in player.poll("model-bundles", key="bundle") if m.value()]
    return {bundle["generation"] for bundle in said if bundle["state"] == state}


def watch_something(player, count):
    """Let users watch, so that there is something to learn."""
    for number in range(5):
        at = (5 * count + number) % NUM_VIDEOS
        player.watch(f"u{number}-{count // VIDEOS_OF_A_USER}", f"v{at}")
    player.flush()


def test_generations_advance_while_the_index_stands_still_most_of_the_time():
    """Nobody ends, every one that is begun is indexed, and streams serves them."""
    with (
        running_stack("embedded", publish_every_s=5.0) as stack,
        player_of(stack) as player,
    ):
        for number in range(NUM_VIDEOS):
            player.upload(f"v{number}", ("cooking", "guitar", "chess")[number % 3])
        player.flush()
        assert eventually(lambda: generations(player, "in_service"), within_s=60)
        first = max(generations(player, "in_service"))

        with freezing(stack.process("index").pid):
            ends_s = time.monotonic() + FROZEN_FOR_S
            count = 0
            while time.monotonic() < ends_s:
                watch_something(player, count)
                count += 1
                assert stack.process("index_sync").is_running, stack.process(
                    "index_sync"
                ).log_tail()
                indexed = {n for n in generations(player, "indexed") if n > first}
            served = {n for n in generations(player, "in_service") if n > first}

        assert len(indexed) >= EXPECTED_GENERATIONS, stack.process("index_sync").log_tail()
        assert len(served) >= EXPECTED_GENERATIONS
        assert "index_unavailable" not in stack.process("index_sync").log_tail()
