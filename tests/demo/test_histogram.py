"""The histogram: percentiles within one per cent, in memory that does not grow."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextwatch.demo.figures.histogram import Histogram


def of(durations_ms):
    """Return a histogram of these durations."""
    histogram = Histogram()
    for duration_ms in durations_ms:
        histogram.add(duration_ms)
    return histogram


def test_percentiles_worked_by_hand():
    """Of five values, the median is the third and the 99th percentile the last."""
    durations = of([10, 20, 30, 40, 50])

    assert [durations.percentile(p) for p in (20, 50, 60, 61, 99, 100)] == [10, 30, 30, 40, 50, 50]


def test_nothing_measured_is_not_zero():
    """No figure is better than a wrong one."""
    assert of([]).percentiles(50, 99) == {"p50": None, "p99": None}


def test_senseless_percent_is_rejected():
    """Zero per cent of anything has no rank."""
    with pytest.raises(ValueError, match="above 0"):
        of([1.0]).percentile(0)


@given(st.lists(st.integers(0, 10**7), min_size=1), st.integers(1, 100))
def test_percentile_is_within_one_per_cent_of_the_exact_one(durations_ms, percent):
    """The nearest rank of all values, told by the bucket that it fell into."""
    exact_ms = sorted(durations_ms)[math.ceil(len(durations_ms) * percent / 100) - 1]

    assert of(durations_ms).percentile(percent) == pytest.approx(exact_ms, rel=0.01)


def test_memory_does_not_grow_with_the_number_of_durations():
    """A demo that runs for days counts, and keeps no list."""
    durations = of(range(1, 100_000))

    assert len(durations) == 99_999
    assert len(durations.counts) < 2_000


def test_a_sum_of_histograms_is_the_histogram_of_all():
    """Seconds add up to a minute."""
    both = of([1, 2, 500])
    both.include(of([3, 4_000]))

    assert both == of([1, 2, 3, 500, 4_000])


def test_clocks_that_disagree_make_no_negative_duration():
    """An answer seen a millisecond before its event took no time."""
    assert of([-1]).percentile(50) == 0
