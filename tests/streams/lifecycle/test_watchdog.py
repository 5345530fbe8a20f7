"""A worker that stands still while something waits ends; an idle one never does."""

from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.lifecycle.watchdog import Reading, Watchdog, WatchedProgress, guard

PATIENCE_S = 60.0


class World:
    """Lanes as a test draws them, and a clock that moves when told to."""

    def __init__(self):
        self.now_s = 0.0
        self.lanes = {}
        self.watchdog = Watchdog(lambda: self.lanes, monotonic=lambda: self.now_s)

    def after(self, seconds, **lanes):
        """Return the verdict *seconds* later, when the lanes are those given, by mark."""
        self.now_s += seconds
        self.lanes = {
            name: WatchedProgress(mark, is_waiting=mark is not None, patience_s=PATIENCE_S)
            for name, mark in lanes.items()
        }
        return self.watchdog.verdict()


def test_a_lane_that_waits_without_moving_uses_up_its_patience():
    """The verdict names the lane and for how long it stood still."""
    # s     0    30    60    61
    # a     5     5     5     5
    world = World()
    assert [world.after(s, a=5) for s in (0, 30, 30)] == ["", "", ""]
    assert world.after(1, a=5) == "a stood still for 61.0 s"


def test_a_lane_that_moves_starts_anew():
    """However slowly it moves."""
    world = World()
    assert [world.after(50, a=mark) for mark in (1, 2, 3, 4)] == ["", "", "", ""]


def test_an_idle_lane_never_ends_a_worker():
    """Nothing waits, so nothing stands still; patience counts from when something waits again."""
    # s     0    9000  9050  9111
    # a     -      -     5     5
    world = World()
    assert [world.after(s, a=m) for s, m in ((0, None), (9_000, None), (50, 5), (60, 5))] == [
        ""
    ] * 4
    assert world.after(1, a=5) == "a stood still for 61.0 s"


def test_busy_lanes_do_not_hide_one_that_hangs():
    """Seven partitions that work are no excuse for the eighth."""
    world = World()
    world.after(0, a=1, b=1)
    assert world.after(61, a=2, b=1) == "b stood still for 61.0 s"


def test_a_partition_that_was_taken_away_is_forgotten():
    """When it comes back its patience is whole again."""
    world = World()
    world.after(0, a=1)
    world.after(50)
    world.after(50, a=1)

    assert world.after(50, a=1) == ""


def test_a_concern_comes_before_the_verdict():
    """Health tells of it when half of the patience is gone."""
    world = World()
    world.after(0, a=1)
    world.after(31, a=1)
    assert world.watchdog.concern == "a stood still for 31.0 s"

    world.after(1, a=2)
    assert world.watchdog.concern == ""


def test_what_was_fetched_has_to_be_acknowledged():
    """The mark is the acknowledged offset; a new answer of the broker is no progress."""
    first = Reading(acknowledged=5, fetched=7, position=7, end=7, num_answers=1)
    later = Reading(acknowledged=5, fetched=7, position=7, end=7, num_answers=2)

    assert first.lane(1.0).mark == later.lane(1.0).mark


def test_what_the_broker_has_must_be_fetched():
    """A position short of the end is lag, too."""
    first = Reading(acknowledged=5, fetched=5, position=5, end=9, num_answers=1)
    later = Reading(acknowledged=5, fetched=5, position=5, end=9, num_answers=2)

    assert first.lane(1.0).mark == later.lane(1.0).mark


def test_a_transaction_marker_at_the_end_does_not_count_as_lag():
    """No consumer ever sees that offset, so it can never be acknowledged."""
    first = Reading(acknowledged=5, fetched=5, position=6, end=6, num_answers=1)
    later = Reading(acknowledged=5, fetched=5, position=6, end=6, num_answers=2)

    assert first.lane(1.0).mark != later.lane(1.0).mark


@pytest.mark.parametrize(
    ("reading", "behind"),
    [
        (Reading(acknowledged=5, fetched=7, position=7, end=7), 2),
        (Reading(acknowledged=5, fetched=5, position=5, end=9), 4),
        (Reading(acknowledged=5, fetched=8, position=5, end=7), 3),
        (Reading(acknowledged=5, fetched=5, position=6, end=6), 0),
        (Reading(acknowledged=5, fetched=5, position=5, end=5), 0),
        (Reading(acknowledged=5, fetched=7), None),
    ],
)
def test_the_lag_counts_what_is_not_acknowledged(reading, behind):
    """The end may be half a second old; a marker at the end is none; unknown is not 0."""
    assert reading.num_behind == behind


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_a_partition_that_is_all_acknowledged_moves_by_being_asked(offset, fetched, num_answers):
    """With no lag it is alive as long as the broker answers its fetches, and only so long."""
    reading = Reading(
        offset, fetched=min(offset, fetched), position=offset, end=offset, num_answers=num_answers
    )  # fmt: skip
    assert reading.lane(1.0) == WatchedProgress(
        ("answered", num_answers), is_waiting=True, patience_s=1.0
    )


def test_a_partition_without_a_leader_does_not_end_a_worker():
    """The broker is at fault, and the other partitions go on; readiness tells of it."""
    reading = Reading(acknowledged=5, fetched=5, position=5, end=9, has_leader=False)
    assert not reading.lane(1.0).is_waiting


def test_publishing_windows_is_moving():
    """A changelog that was made anew gets all of them before the next event is taken."""
    first = Reading(acknowledged=5, fetched=7, changelog=1)
    later = Reading(acknowledged=5, fetched=7, changelog=501)

    assert first.lane(1.0).mark != later.lane(1.0).mark


def test_the_guard_reports_the_first_verdict_and_returns():
    """It runs in a thread of its own; whoever it tells, ends the process."""
    world = World()
    world.after(0, a=1)
    world.now_s = 61.0
    told = []

    guard(world.watchdog, every_s=0.0, stop=Event(), on_stall=told.append)

    assert told == ["a stood still for 61.0 s"]


@pytest.mark.timeout(5)
def test_the_guard_returns_when_the_worker_stops():
    """Without a verdict."""
    stop = Event()
    stop.set()

    guard(World().watchdog, every_s=60.0, stop=stop, on_stall=pytest.fail)
