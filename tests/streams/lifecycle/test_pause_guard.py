"""A worker that stood still must not write."""

import pytest

from contract.errors import WorkerPausedError
from streams.lifecycle.pause_guard import PauseGuard


class Time:
    now_s = 0.0

    def __call__(self):
        return self.now_s


def test_the_fence_is_open_before_the_first_beat():
    """Starting up takes as long as it takes."""
    time = Time()
    fence = PauseGuard(time, limit_s=3.0)
    time.now_s = 60.0

    fence.check()


def test_a_silence_longer_than_the_limit_closes_it_for_good():
    """Neither work nor a late beat may go on as if nothing had been."""
    time = Time()
    fence = PauseGuard(time, limit_s=3.0)
    fence.beat()
    time.now_s = 3.1

    with pytest.raises(WorkerPausedError, match=r"3\.1 s"):
        fence.check()
    with pytest.raises(WorkerPausedError):
        fence.beat()


def test_regular_beats_keep_it_open():
    """The limit is on one silence, not on the sum."""
    time = Time()
    fence = PauseGuard(time, limit_s=3.0)
    for _ in range(5):
        fence.beat()
        time.now_s += 2.9

    fence.check()
