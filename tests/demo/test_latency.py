"""Percentiles: nearest rank, so that each was measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextwatch.demo import latency
from nextwatch.demo.latency import Latencies, percentile


def test_percentile_worked_by_hand():
    """Of five values, the median is the third and the 99th percentile the last."""
    ordered = [10, 20, 30, 40, 50]

    assert [percentile(ordered, p) for p in (20, 50, 60, 61, 99, 100)] == [10, 30, 30, 40, 50, 50]


def test_nothing_measured_is_not_zero():
    """No figure is better than a wrong one."""
    assert percentile([], 50) is None


def test_senseless_percent_is_refused():
    """Zero per cent of anything has no rank."""
    with pytest.raises(ValueError, match="above 0"):
        percentile([1.0], 0)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 100))
def test_percentile_covers_its_share(values, percent):
    """At least so many per cent of the values do not exceed it, and it is one of them."""
    found = percentile(sorted(values), percent)

    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values)


def test_only_the_newest_are_kept(monkeypatch):
    """A demo that runs for days does not fill the memory."""
    kept = Latencies()
    for value in range(latency.MOST_KEPT + 10):
        kept.add(value)

    assert len(kept) == latency.MOST_KEPT
    assert kept.percentiles(100, last=5) == {"p100": latency.MOST_KEPT + 9}


def test_clocks_that_disagree_make_no_negative_duration():
    """An answer seen a millisecond before its event took no time."""
    kept = Latencies()
    kept.add(-1)

    assert kept.percentiles(50) == {"p50": 0}
