"""Stores that do not answer are asked again, with waits that double."""

import pytest

from contract.errors import StoreUnavailable
from contract.kafka.retries import Retries, until_answered


class World:
    """A clock that moves by sleeping, and a store that is away until some time."""

    def __init__(self, *, back_at_s, is_missing=False):
        self.now_s = 0.0
        self.back_at_s, self.is_missing = back_at_s, is_missing
        self.asked_at_s = []

    def ask(self):
        self.asked_at_s.append(round(self.now_s, 1))
        if self.now_s < self.back_at_s:
            raise StoreUnavailable("away", is_missing=self.is_missing)
        return "content"

    def sleep(self, seconds):
        self.now_s += seconds

    def run(self, **options):
        return until_answered(self.ask, monotonic=lambda: self.now_s, sleep=self.sleep, **options)


def test_a_store_that_comes_back_is_read():
    """Nothing is refused for a hiccup."""
    world = World(back_at_s=10)

    assert world.run(within_s=30) == "content"
    assert world.asked_at_s == [0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 11.3]


def test_a_store_that_stays_unavailable_is_an_error():
    """In time for a supervisor."""
    world = World(back_at_s=1_000)

    with pytest.raises(StoreUnavailable):
        world.run(within_s=30)
    assert world.now_s <= 30


def test_a_missing_object_is_waited_for_less_long():
    """The store answers; most likely somebody has deleted it."""
    world = World(back_at_s=1_000, is_missing=True)

    with pytest.raises(StoreUnavailable):
        world.run(within_s=30, missing_within_s=2)
    assert world.now_s <= 2


def test_other_errors_are_not_repeated():
    """Damage stays damage."""
    with pytest.raises(ValueError, match="damaged"):
        until_answered(lambda: int("damaged"), within_s=30)


def test_each_thing_that_failed_is_due_by_its_own_waits():
    """And one that was forgotten is due at once."""
    now_s = [0.0]
    retries = Retries(lambda: now_s[0], first_wait_s=1, longest_wait_s=3)

    assert [retries.failed("a") for _ in range(4)] == [1, 2, 3, 3]
    assert (retries.is_due("a"), retries.is_due("b")) == (False, True)
    now_s[0] = 3
    assert retries.is_due("a")
    retries.failed("a")
    retries.forget("a")
    assert retries.is_due("a")
