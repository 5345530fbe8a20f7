"""Produce watches during a change, and check that all are answered and in the windows."""

from contextlib import contextmanager
from itertools import count
from threading import Event, Thread

from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from benchmarks.windows.oracle import drawn
from tests.support.oracle import all_answered, events, expected_windows, published_windows

PER_S = 40
ANSWERED_WITHIN_S = 180


class Load:
    """Produces `PER_S` watches a second with a client of its own; no two loads share users."""

    _numbers = count()

    def __init__(self, project):
        self._project = project
        self._number = next(self._numbers)
        self._stop = Event()
        self._thread = Thread(target=self._run)
        self.sent = []

    @contextmanager
    def during(self):
        """Produce while the block runs, and for a second before and after it."""
        self._thread.start()
        try:
            self._await_more()
            yield self
            self._await_more()
        finally:
            self._stop.set()
            self._thread.join()

    def check(self):
        """Every watch is answered, and the windows are those that the watches alone make."""
        ids = {event["event_id"] for event in self.sent}
        wanted = expected_windows(self.sent)
        with player_of(self._project) as player:
            assert eventually(lambda: all_answered(player, ids), within_s=ANSWERED_WITHIN_S)

            def is_equal():
                found = published_windows(player)
                return wanted == {user: drawn(found[user]) for user in wanted.keys() & found.keys()}

            assert eventually(is_equal, within_s=ANSWERED_WITHIN_S)

    def _await_more(self):
        wanted = len(self.sent) + PER_S
        assert eventually(lambda: len(self.sent) >= wanted, within_s=60)

    def _run(self):
        with player_of(self._project) as player:
            for event in events(1_000_000, seed=self._number + 1):
                if self._stop.wait(1 / PER_S):
                    break
                user_id = f"load{self._number}-{event['user_id']}"
                self.sent.append(event | {"user_id": user_id})
                player.produce("watch-events", user_id, self.sent[-1])
                player._producer.poll(0)
            player.flush(within_s=ANSWERED_WITHIN_S)  # a broker that was killed is away for a while
