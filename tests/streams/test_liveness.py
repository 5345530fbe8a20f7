"""What has to move in a worker, by where it stands in its group."""

from types import SimpleNamespace

import pytest

from contract.kafka.records import Position
from streams.lifecycle.watchdog import Membership, Reading, WatchedProgress
from streams.liveness import STOP_WITHIN_S, lanes

WATCHES, RESTORED = Position("watch-events", 3), Position("changelog", 3)


def app(membership=Membership.SERVING, *, marks=None, is_stopping=False, is_holding=False):
    """Return what `lanes` sees of an app whose partitions are at *marks*."""
    return SimpleNamespace(
        should_stop=is_stopping,
        membership=membership,
        partitions=SimpleNamespace(marks=lambda: marks or {}),
        reading=lambda at, marks: Reading(marks[at], fetched=9),
        quotas=SimpleNamespace(is_holding=is_holding),
    )


def looked_at(app, *, num_moved=0):
    """Return the lanes of *app*, with a minute to serve and two to join."""
    return lanes(app, patience_s=60.0, join_patience_s=120.0, num_moved=lambda: num_moved)


def test_every_source_partition_is_a_lane_of_its_own():
    """The changelog is ours to write; nothing waits in it."""
    found = looked_at(app(marks={WATCHES: 5, RESTORED: 2}))

    assert found == {
        "watch-events/3": WatchedProgress(("acknowledged", 5, 0), is_waiting=True, patience_s=60.0)
    }


def test_a_worker_that_a_quota_holds_back_is_not_waited_for():
    """Starting it again would free it of no quota."""
    [(_, lane)] = looked_at(app(marks={WATCHES: 5}, is_holding=True)).items()

    assert not lane.is_waiting


def test_a_worker_without_partitions_has_no_lane():
    """More workers than partitions are no fault."""
    assert looked_at(app()) == {}


@pytest.mark.parametrize("membership", [Membership.JOINING, Membership.RESTORING])
def test_the_way_into_the_group_is_a_lane_too(membership):
    """A recovery that hangs is not waited for for ever."""
    [(name, lane)] = looked_at(app(membership)).items()

    assert (name, lane.is_waiting, lane.patience_s) == (membership.name.lower(), True, 120.0)


def test_a_long_restore_moves_by_what_it_has_read():
    """However large the changelog is."""
    before, after = (
        looked_at(app(Membership.RESTORING, marks={RESTORED: offset}))["restoring"]
        for offset in (1, 2)
    )

    assert before.mark != after.mark


def test_a_changelog_that_is_looked_through_moves_by_each_record():
    """Nothing of it is merged before all of it was read, which may take minutes."""
    restoring = app(Membership.RESTORING, marks={RESTORED: 0})
    before, after = (looked_at(restoring, num_moved=n)["restoring"] for n in (500, 501))

    assert before.mark != after.mark


def test_a_stop_is_to_end_in_time():
    """Whatever else waits."""
    found = looked_at(app(marks={WATCHES: 5}, is_stopping=True))

    assert found == {"shutdown": WatchedProgress(None, is_waiting=True, patience_s=STOP_WITHIN_S)}
