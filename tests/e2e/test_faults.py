"""A short run of ``python -m benchmarks.faults``: the worst faults."""

import pytest

from benchmarks.faults.rounds import play

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

RATE = 120.0


def test_nothing_is_lost_by_a_crash_a_zombie_or_a_cut():
    """A worker killed and wiped, a frozen one, one cut off that writes late, a network cut.

    The changelog is read as if it had been compacted, and the windows are compared to the byte.
    """
    faults = ("kill_and_wipe", "isolate", "cut", "pause")
    record = play(faults, 11, rate=RATE, breaks=("compacted",), within_s=40)

    assert record.trouble == []
    assert (record.lost, record.applied_twice, record.differing) == (0, 0, 0)
    assert record.state_equal
    assert all(played.is_mid_stream for played in record.rounds)
    assert record.stale_overwrites > 0, "no zombie wrote: the faults did not bite"
