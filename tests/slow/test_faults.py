"""Short runs of ``python -m benchmarks.faults``: the worst faults, and a build that must fail."""

import pytest

from benchmarks.faults.rounds import play

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RATE = 120.0


def test_a_build_that_does_not_rewind_is_found_out():
    """The new owner dies while a zombie's words arrive; only reading again brings back the rest.

    Whether the words that arrive are older than the new owner's is a matter of milliseconds, so the
    fault is played until it bites, three times at most.
    """
    breaks = ("no_rewind", "compacted")
    plays = (
        play(("isolate_and_wipe",), seed, rate=RATE, breaks=breaks, within_s=40)
        for seed in (12, 13, 14)
    )

    assert any(record.lost > 0 and not record.state_equal for record in plays)


def test_nothing_is_lost_when_the_broker_is_killed_or_its_records_are_deleted():
    """Killed on its data; records deleted under the workers; a transaction that nobody ends."""
    faults = ("kill_broker", "delete_events", "kill_transaction")
    record = play(faults, 15, rate=RATE, within_s=60)

    assert record.trouble == []
    assert (record.lost, record.applied_twice, record.differing) == (0, 0, 0)
    assert record.uncommitted_answered == 0
    assert record.state_equal


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
