"""Paces: even or as in the log, and never a flood after a stall."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextwatch.sources.pacing import EvenPace, LogPace, even_pace


def test_an_even_pace_keeps_its_distance():
    """Four events a second go out a quarter of a second apart."""
    pace = EvenPace(4)

    assert [pace.due_s(now_s=100.0) for _ in range(3)] == [100.0, 100.25, 100.5]


def test_an_even_pace_makes_up_for_small_delays():
    """A slot is not moved because the one before was used late: the rate holds."""
    pace = EvenPace(4)
    pace.due_s(now_s=100.0)

    assert [pace.due_s(now_s=100.3), pace.due_s(now_s=100.3)] == [100.25, 100.5]


def test_an_impression_takes_no_slot():
    """What rides along goes at once, and the next watch keeps its time."""
    pace = EvenPace(4)
    pace.due_s(now_s=100.0)

    assert pace.due_s(rides_along=True, now_s=100.1) == 100.1
    assert pace.due_s(now_s=100.1) == 100.25


@given(st.floats(1, 1e4), st.floats(0, 1e5), st.floats(0, 2))
def test_after_a_stall_an_even_pace_catches_up_on_a_bounded_burst(per_s, stall_s, max_catch_up_s):
    """However long the stall, what is overdue at once is what fits the bound, and its two ends."""
    pace = EvenPace(per_s, max_catch_up_s=max_catch_up_s)
    pace.due_s(now_s=0.0)
    overdue = 0
    while pace.due_s(now_s=stall_s) < stall_s and overdue <= per_s * max_catch_up_s + 3:
        overdue += 1

    assert overdue <= per_s * max_catch_up_s + 2


def test_a_speed_divides_the_distances_of_the_log():
    """At 100x, an hour of the log takes 36 seconds."""
    # event time      0 h        1 h
    # clock (s)      50.0       86.0
    pace = LogPace(100)

    assert pace.due_s(0, now_s=50.0) == 50.0
    assert pace.due_s(3_600_000, now_s=50.0) == pytest.approx(86.0)


def test_after_a_stall_the_rest_of_the_log_shifts():
    """Ten seconds late with a bound of one: the log goes on as if nine had not been."""
    pace = LogPace(1, max_catch_up_s=1.0)
    pace.due_s(0, now_s=0.0)

    assert pace.due_s(0, now_s=10.0) == pytest.approx(9.0)
    assert pace.due_s(5_000, now_s=10.0) == pytest.approx(14.0)


def test_a_rate_of_nothing_never_comes():
    """No uploads is a rate too."""
    assert even_pace(0).due_s(now_s=1.0) == math.inf


@pytest.mark.parametrize("pace", [EvenPace, LogPace])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_nonsense_is_refused(pace, value):
    """Neither standing still nor infinitely fast is a pace."""
    with pytest.raises(ValueError, match="must be above 0"):
        pace(value)
