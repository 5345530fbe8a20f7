"""What the load generator makes of the times it noted."""

import numpy as np
import pytest

from benchmarks.serving.load import Measured


def measured(*, meant, answered, received=(), caused=(), hot=None):
    """What came of a load, with times in seconds."""
    return Measured(
        meant_s_E=np.array(meant, float),
        answered_s_E=np.array(answered, float),
        is_hot_E=np.array(hot or [0] * len(meant)),
        received_s_A=np.array(received, float),
        num_caused_A=np.array(caused, int),
        num_short=1,
        num_degraded=2,
        generator_cpu_s=0.5,
    )


def test_a_latency_counts_from_when_the_event_was_meant_to_be_sent():
    """In milliseconds, and only of events that were answered."""
    found = measured(meant=[0, 1, 2], answered=[0.5, 1.25, np.nan])

    assert found.latency_ms(skip=0).tolist() == [500.0, 250.0]
    assert found.num_unanswered == 1


def test_the_hot_user_is_looked_at_apart():
    """Its own latencies are those of a queue that it filled."""
    found = measured(meant=[0, 0], answered=[0.5, 9.0], hot=[0, 1])

    assert found.latency_ms(skip=0).tolist() == [500.0]
    assert found.latency_ms(is_hot=True, skip=0).tolist() == [9_000.0]


def test_rates_leave_out_how_a_run_begins_and_ends():
    """Ten answers of two events each, one a second; the first and the last come late."""
    # received   0 . . . . 10 11 12 13 14 15 16 17 . . . . 40
    #            x          [--------------------]          x
    found = measured(meant=[0], answered=[10], received=[0, *range(10, 18), 40], caused=[2] * 10)

    assert found.rates(skip=0.1) == pytest.approx((1.0, 2.0))
    assert found.drained_s == 40.0


def test_what_was_measured_survives_the_file(tmp_path):
    """It is written by one process and read by another."""
    found = measured(meant=[0, 1], answered=[1, np.nan], received=[1], caused=[1])

    found.save(tmp_path / "run.npz")
    again = Measured.read(tmp_path / "run.npz")

    np.testing.assert_array_equal(again.answered_s_E, found.answered_s_E)
    assert (again.num_short, again.num_degraded, again.generator_cpu_s) == (1, 2, 0.5)
