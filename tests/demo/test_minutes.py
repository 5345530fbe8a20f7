"""Minutes: each latency belongs to the minute in which its event was sent."""

import msgspec

from nextwatch.demo.figures import minutes as minutes_module
from nextwatch.demo.figures.minutes import Minutes


def told(minutes):
    """Return the figures of each minute, without those that are not asked for here."""
    return [(m.minute, m.events, m.answered, m.p50) for m in minutes.figures()]


def test_first_event_begins_the_first_minute():
    """Minutes are counted from the first event, not from a round time of the clock."""
    # sent   50 s      109 s     110 s
    #        [ minute 1    ]     [ minute 2
    minutes = Minutes()
    for sent_ms in (50_000, 109_999, 110_000):
        minutes.sent(sent_ms)
        minutes.answered(sent_ms, 20)

    assert told(minutes) == [(1, 2, 2, 20), (2, 1, 1, 20)]


def test_late_answer_counts_for_the_minute_of_its_event():
    """A stall shows in the minute in which events had to wait."""
    minutes = Minutes()
    minutes.sent(0)
    minutes.sent(60_000)
    minutes.answered(0, 90_000)

    first, second = minutes.figures()
    assert first.p99 > 89_000
    assert (second.events, second.answered, second.p99) == (1, 0, None)


def test_a_minute_without_events_is_reported_too():
    """The list has one object for every minute since the first event."""
    minutes = Minutes()
    minutes.sent(0)
    minutes.sent(150_000)

    assert told(minutes) == [(1, 1, 0, None), (2, 0, 0, None), (3, 1, 0, None)]


def test_closed_minutes_keep_their_figures_and_no_histogram():
    """A run of a day does not keep 1,440 histograms; what comes too late is only counted."""
    minutes = Minutes()
    for minute in range(100):
        minutes.sent(minute * 60_000)
        minutes.answered(minute * 60_000, 7)
    minutes.answered(0, 5_000)

    assert len(minutes._open) == minutes_module.NUM_OPEN
    assert minutes.figures()[0] == msgspec.structs.replace(
        minutes.figures()[1], minute=1, answered=2
    )


def test_senseless_stamps_do_not_fill_the_memory():
    """An event of 1970, and one of a far future, make no million minutes."""
    minutes = Minutes()
    minutes.sent(0)
    minutes.sent(2_000_000_000_000)
    minutes.sent(-5)

    assert told(minutes) == [(1, 2, 0, None)]
