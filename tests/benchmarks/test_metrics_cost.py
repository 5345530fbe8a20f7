"""What metrics cost is measured, and bounded."""

import statistics

from benchmarks.serving.metrics_cost import recording_us

LEAST_US_OF_AN_EVENT = 1_000
"""An event takes a worker more CPU than that at saturation: docs/results/serving.md."""


def test_recording_costs_less_than_two_percent_of_an_event():
    """In full micro-batches, which is what saturation makes; CPU time of one thread."""
    found = [recording_us(repeats=200) for _ in range(5)]

    assert 0 < statistics.median(found) < 0.02 * LEAST_US_OF_AN_EVENT


def test_a_lone_event_costs_less_than_two_percent_too():
    """It has a micro-batch of its own, and pays for all stages."""
    found = [recording_us(1, repeats=2_000) for _ in range(5)]

    assert 0 < statistics.median(found) < 0.02 * LEAST_US_OF_AN_EVENT
