"""Produce a steady flow of events during an outage, and check that nothing was lost."""

import threading
import time

from benchmarks.stack.player import Player
from benchmarks.stack.waiting import eventually
from benchmarks.windows.oracle import drawn
from tests.support.oracle import all_answered, events, expected_windows, published_windows

PER_S = 60

ACKNOWLEDGED_WITHIN_S = 90
"""A request that a broker took just before it went is given up after 60 s and sent again."""


class Flow:
    """Produces events steadily from a thread of its own, and lists them in `produced`."""

    def __init__(self, stack):
        self._player = Player(stack)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._produce, daemon=True)
        self.produced = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()
        self._player.flush(within_s=ACKNOWLEDGED_WITHIN_S)
        self._player.close()

    def _produce(self):
        for event in events(100_000):
            if self._is_over.is_set():
                return
            self._player.produce("watch-events", event["user_id"], event)
            self._player._producer.poll(0)
            self.produced.append(event)
            time.sleep(1 / PER_S)


def assert_nothing_was_lost(flow, player, *, within_s=90):
    """Every event was answered, and the windows are those of an undisturbed run."""
    wanted = {event["event_id"] for event in flow.produced}
    is_whole = eventually(lambda: all_answered(player, wanted), within_s=within_s)
    answered = {event for answer in player.recommendations() for event in answer["caused_by"]}
    assert is_whole, f"{len(wanted - answered)} of {len(wanted)} events were not answered"
    windows = {user: drawn(record) for user, record in published_windows(player).items()}
    assert windows == expected_windows(flow.produced)
