"""Owning partitions: which windows they start from, and where they read on."""

import pytest
from structlog.testing import capture_logs

from contract.kafka.records import Position
from streams.state.logs import Log
from streams.state.partition import CHANGELOG
from tests.streams.state.dict_store import DictStore
from tests.streams.state.partition_worlds import WATCHES, World, logged, window
from tests.support.builders import watch


def test_a_new_partition_starts_at_the_beginning():
    """Nobody has committed, nothing is stored."""
    assert World().assign() == 0


def test_an_empty_store_is_rebuilt_from_the_changelog():
    """Losing the disk loses nothing."""
    a, b = watch("A"), watch("B", at_ms=1)
    world = World(logged(0, a), logged(1, a, b))

    world.assign(committed=5)

    assert world.windows("u1")["u1"] == window(a, b)


def test_a_stale_record_in_the_changelog_does_not_undo_a_newer_window():
    """Records are merged, never put in place: a paused owner may have written the last one."""
    a, b = watch("A"), watch("B", at_ms=1)
    world = World(logged(0, a, b), logged(1, a))

    world.assign()

    assert world.windows("u1")["u1"] == window(a, b)


def test_it_reads_on_from_where_the_group_is():
    """What the store lacks of it, the changelog has: whoever committed had published it."""
    world = World(logged(0, watch("A")))
    world.stores[0] = DictStore()
    world.stores[0].write({}, {"watch-events": 5, CHANGELOG: 1})

    assert world.assign(committed=80) == 80


def test_without_an_offset_of_the_group_it_reads_on_from_where_the_store_is():
    """The group's offsets expire when nobody is there for a week."""
    world = World(logged(0, watch("A")))
    world.assign()
    world.acknowledge(9)
    world.stores[0].write({}, {"watch-events": 9})
    world.restart()

    assert world.assign() == 9


def test_records_are_read_again_after_another_worker_wrote():
    """The rewind heals what a paused owner overwrote; it ends at what the topic still has."""
    assert World(logged(0, watch("A")), rewind=15).assign(committed=20) == 5
    assert World(logged(0, watch("A")), rewind=15).assign(20, Log(9, 100, 7)) == 9


def test_a_partition_that_stays_is_not_read_again():
    """A rebalance that moves others costs this one nothing."""
    world = World(rewind=15)
    world.assign()
    world.acknowledge(33)

    assert world.assign(committed=20) == 33


def test_records_deleted_by_retention_are_logged_and_skipped():
    """One line that says how many of which partition."""
    world = World(logged(0, watch("A")))

    with capture_logs() as told:
        assert world.assign(20, Log(50, 100, 7)) == 50

    [line] = [line for line in told if line["event"] == "records_gone"]
    assert (line["topic"], line["partition"], line["records"]) == ("watch-events", 0, 30)


@pytest.mark.parametrize(
    "source", [Log(0, 60, 8), Log(0, 60, 0), Log(0, 300, 8)], ids=["shorter", "no id", "longer"]
)
def test_a_topic_that_was_made_anew_is_read_from_its_beginning(source):
    """An offset is only valid for the log it came from."""
    world = World(logged(0, watch("A")))
    world.assign(source=Log(0, 240, 7))
    world.acknowledge(240)
    world.restart()

    assert world.assign(240, source) == 0
    world.acknowledge(60)
    assert world.partitions.committable() == {WATCHES: 60}


def test_only_acknowledged_offsets_beyond_the_groups_are_committable():
    """A rewind never takes the group's offset back."""
    world = World(logged(0, watch("A")), rewind=15)
    world.assign(committed=20)
    assert world.partitions.committable() == {}

    world.acknowledge(21)
    assert world.partitions.committable() == {WATCHES: 21}


def test_a_log_that_lost_its_beginning_under_a_worker_is_read_on_where_it_begins():
    """What was answered stays answered, and the others read on where they are."""
    world = World(logged(0, watch("A")))
    world.assign(committed=20)
    world.acknowledge(30)

    assert world.partitions.start_again({WATCHES: Log(55, 100, 7)}) == {WATCHES: 55}
    assert world.partitions.get(0).positions.committed == {"watch-events": 20}


def test_a_log_that_is_made_anew_under_a_worker_is_read_from_its_beginning():
    """Everything in it is to be answered and committed."""
    world = World(logged(0, watch("A")))
    world.assign(committed=20)
    world.acknowledge(30)

    assert world.partitions.start_again({WATCHES: Log(0, 5, 8)}) == {WATCHES: 0}
    assert world.partitions.get(0).positions.committed == {"watch-events": 0}


def test_a_topic_created_again_is_recognised_by_its_id():
    """However long its log is by now; a fetch does not always notice. The same topic is none."""
    world = World(logged(0, watch("A")))
    world.assign(committed=20, source=Log(0, 100, 7))

    assert world.partitions.replaced({WATCHES: Log(0, 200, 8)}) == [WATCHES]
    assert world.partitions.replaced({WATCHES: Log(50, 200, 7)}) == []
    assert world.partitions.replaced({WATCHES: Log(0, 200, 0)}) == [], "the broker tells no ids"
    world.partitions.start_again({WATCHES: Log(0, 200, 8)})
    assert world.partitions.replaced({WATCHES: Log(0, 200, 8)}) == []


def test_a_partition_that_is_added_leaves_the_others_as_they_are():
    """They go on where they are; it is opened as if all had been assigned at once."""
    world = World(logged(0, watch("A")), logged(0, watch("B"), user_id="u2", partition=1))
    world.assign(committed=20)
    world.acknowledge(30)
    second = Position("watch-events", 1)
    logs = {second: Log(0, 50, 7), Position(CHANGELOG, 1): Log(0, 1, 1)}

    with capture_logs() as told:
        assert world.partitions.add({second: 40}, logs) == {WATCHES: 30, second: 40}
    assert [(line["kept"], line["opened"]) for line in told if "kept" in line] == [([0], [1])]
    assert world.partitions.get(1).positions.committed == {"watch-events": 40}
    assert world.partitions.get(1).windows(["u2"])["u2"] == window(watch("B"))


def test_a_suspended_worker_owns_nothing_until_it_is_assigned_again():
    """Between revocation and assignment, somebody else may be the owner."""
    world = World()
    world.assign()

    world.partitions.suspend()
    assert world.partitions.get(0) is None

    world.assign()
    assert world.partitions.get(0) is not None


def test_closing_remembers_how_far_the_changelog_was_merged():
    """The next opening reads only what came since."""
    world = World(logged(0, watch("A")))
    world.assign()

    world.partitions.close()

    assert world.stores[0].offset(CHANGELOG) == 1
