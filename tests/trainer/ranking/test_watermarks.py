"""Up to which event time a partition has been read."""

from contract.process.clock import ManualClock
from tests.support.builders import T0
from trainer.ranking.watermarks import IdlePlaces, Watermarks

IDLE_MS = 10_000
BOTH_AT_END = {("shown", 0), ("watched", 0)}


def watermarks(clock=None):
    """Return watermarks over two topics."""
    return Watermarks(("shown", "watched"), clock=clock or ManualClock(T0 + 10**9))


def idle_places(clock):
    """Return what measures how long topics stay at their ends."""
    return IdlePlaces(("shown", "watched"), idle_ms=IDLE_MS, clock=clock)


def test_the_topic_that_was_read_least_far_decides():
    """Else a trainer that catches up with impressions first took all of them for not watched."""
    marks = watermarks()

    marks.note("shown", 0, T0 + 900)
    assert marks.of(0) == 0
    marks.note("watched", 0, T0 + 100)
    assert marks.of(0) == T0 + 100
    marks.note("watched", 0, T0 + 950)
    assert marks.of(0) == T0 + 900


def test_an_older_event_moves_nothing_back():
    marks = watermarks()
    for topic in ("shown", "watched"):
        marks.note(topic, 0, T0 + 100)
        marks.note(topic, 0, T0 + 50)

    assert marks.of(0) == T0 + 100


def test_the_newest_event_of_a_partition_is_its_own_and_without_one_that_of_all():
    marks = watermarks()
    assert marks.newest_ms(0) == 0

    marks.note("shown", 0, T0 + 5)
    marks.note("watched", 0, T0 + 3)
    marks.note("shown", 1, T0 + 7)

    assert [marks.newest_ms(partition) for partition in range(3)] == [T0 + 5, T0 + 7, T0 + 7]


def test_partitions_do_not_wait_for_one_another():
    marks = watermarks()
    marks.note("shown", 0, T0)
    marks.note("watched", 0, T0)
    marks.note("shown", 1, T0 + 5)

    assert (marks.of(0), marks.of(1)) == (T0, 0)


def test_a_topic_that_stays_at_its_end_does_not_hold_the_others_back():
    """Whether it has ever told anything or not; and not before it was there for a while."""
    clock = ManualClock(T0 + 10**9)
    marks, places = watermarks(clock), idle_places(clock)
    marks.note("shown", 0, T0 + 900)

    marks.lift(places.note(BOTH_AT_END))
    assert marks.of(0) == 0
    clock.advance(ms=IDLE_MS)
    idle = places.note(BOTH_AT_END)
    assert not marks.are_lifted(idle)
    marks.lift(idle)

    assert marks.of(0) == T0 + 900
    assert marks.are_lifted(idle)


def test_idle_topics_are_lifted_to_the_newest_event_and_never_to_the_clock():
    """In a replayed log the clock is another year."""
    marks = watermarks(ManualClock(T0 + 10**12))
    marks.note("shown", 0, T0 + 900)
    marks.note("watched", 0, T0 + 100)
    for _ in range(3):
        marks.lift(BOTH_AT_END)

    assert marks.of(0) == T0 + 900


def test_a_topic_with_records_to_come_is_waited_for_however_long():
    """The broker may be slow to give them."""
    clock = ManualClock(T0 + 10**9)
    places = idle_places(clock)
    for _ in range(3):
        idle = places.note({("shown", 0)})
        clock.advance(ms=IDLE_MS)

    assert idle == [("shown", 0)]


def test_a_record_begins_the_wait_anew():
    clock = ManualClock(T0 + 10**9)
    places = idle_places(clock)
    places.note(BOTH_AT_END)
    clock.advance(ms=IDLE_MS - 1)
    places.note(BOTH_AT_END, {("watched", 0)})
    clock.advance(ms=IDLE_MS - 1)

    assert places.note(BOTH_AT_END) == [("shown", 0)]


def test_an_event_of_the_future_moves_the_watermark_to_now_alone():
    """One player with a wrong clock must not close the windows of everybody."""
    marks = watermarks(ManualClock(T0 + 500))
    for topic in ("shown", "watched"):
        marks.note(topic, 0, T0 + 3_000_000)

    assert marks.of(0) == T0 + 500
