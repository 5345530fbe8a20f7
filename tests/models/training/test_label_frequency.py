"""The streaming frequency estimate, worked by hand."""

import numpy as np
import pytest

from models.history.history import DAY_MS
from models.training.label_frequency import LabelFrequency
from tests.support.builders import T0


def test_counts_halve_with_event_time():
    """Two labels a day ago and one now are one and one."""
    frequency = LabelFrequency(half_life_ms=DAY_MS)
    frequency.move_to(T0)
    frequency.add(np.array([3, 3]))
    frequency.move_to(T0 + DAY_MS)
    frequency.add(np.array([5]))

    assert frequency.counts(np.array([3, 4, 5])).tolist() == [1.0, 0.0, 1.0]
    assert frequency.shares(np.array([3, 4, 5])).tolist() == [0.5, 0.0, 0.5]


def test_a_late_example_turns_no_clock_back():
    """Out of order delivery must not make old counts grow."""
    frequency = LabelFrequency(half_life_ms=DAY_MS)
    frequency.move_to(T0)
    frequency.add(np.array([1, 1]))

    frequency.move_to(T0 - DAY_MS)

    assert frequency.newest_ms == T0
    assert frequency.counts(np.array([1])).tolist() == [2.0]


def test_a_clock_in_the_future_is_turned_back():
    """Counts stay as they had decayed, and go on from now."""
    frequency = LabelFrequency(half_life_ms=DAY_MS)
    frequency.move_to(T0 + 400 * DAY_MS)
    frequency.add(np.array([1, 1]))

    assert not frequency.turn_back(T0, latest_ms=T0 + 400 * DAY_MS)
    assert frequency.turn_back(T0, latest_ms=T0)

    frequency.move_to(T0 + DAY_MS)
    assert frequency.counts(np.array([1])).tolist() == [1.0]


def test_it_grows_and_keeps_its_counts():
    """A catalogue of any size."""
    frequency = LabelFrequency(half_life_ms=DAY_MS)
    frequency.add(np.array([1]))

    frequency.reserve(5_000)

    assert frequency.counts(np.array([1, 5_000])).tolist() == [1.0, 0.0]


def test_a_hundred_days_leave_the_shares_of_the_last_ones():
    """Weights are scaled down on the way, and nothing overflows."""
    frequency = LabelFrequency(half_life_ms=DAY_MS)
    for day in range(100):
        frequency.move_to(T0 + day * DAY_MS)
        frequency.add(np.array([day % 2 + 1]))

    first, second = frequency.counts(np.array([1, 2]))
    assert second == pytest.approx(4 / 3)
    assert first == pytest.approx(2 / 3)
    assert frequency.shares(np.array([1, 2])).sum() == pytest.approx(1.0)


def test_counting_goes_on_bit_for_bit_after_a_restart():
    frequency = LabelFrequency(half_life_ms=DAY_MS)
    frequency.move_to(T0)
    frequency.add(np.array([1, 3]))
    frequency.move_to(T0 + 1_234_567)
    restarted = LabelFrequency(half_life_ms=DAY_MS)
    restarted.load_state(*frequency.state())
    for one in (frequency, restarted):
        one.move_to(T0 + 7_654_321)
        one.add(np.array([3, 4]))

    rows = np.arange(5)
    assert frequency.shares(rows).tolist() == restarted.shares(rows).tolist()


def test_counts_of_0_2_are_read():
    """They had decayed to the newest time."""
    frequency = LabelFrequency(half_life_ms=DAY_MS)
    frequency.load_state(np.array([0.0, 4.0, 2.0]), {"newest_ms": T0})
    frequency.move_to(T0 + DAY_MS)

    assert frequency.counts(np.array([1, 2])).tolist() == [2.0, 1.0]
