"""What the changelog of a partition lacks, and what others wrote to it: found and set right."""

import pytest
from structlog.testing import capture_logs

from contract.errors import NewerFormatError
from contract.kafka.records import Position
from models.history import codec as history_codec
from models.history.codec import decode
from models.history.erasure import marker_key
from streams.state.changelog import LoggedWindow
from streams.state.logs import Log
from streams.state.partition import CHANGELOG, marker_record
from streams.state.partitions import SLICE
from tests.streams.state.partition_worlds import WATCHES, World, logged, window
from tests.support.builders import watch


def test_a_state_that_is_nowhere_is_built_from_the_events_again():
    """No disk, an empty changelog, and yet the group had come far: never start silently empty."""
    assert World().assign(20, Log(7, 100, 7)) == 7


def test_a_state_that_is_nowhere_is_built_from_the_events_of_every_topic():
    """Not of the first one alone."""
    world, searches = World(), Position("search-events", 0)
    logs = {WATCHES: Log(7, 100, 7), searches: Log(3, 50, 8), Position(CHANGELOG, 0): Log(0, 0, 1)}

    assert world.partitions.assign({WATCHES: 20, searches: 30}, logs) == {WATCHES: 7, searches: 3}


def test_a_store_that_was_left_behind_reads_on_where_it_was_when_the_changelog_is_another():
    """What another worker folded since is lost: its store is not here, its changelog gone."""
    world = World(logged(0, watch("A")))
    world.assign(committed=5)
    world.acknowledge(10)
    world.partitions.close()
    world.changelog.clear()
    world.changelog_identity = 2
    world.restart()

    assert world.assign(committed=60) == 10
    assert world.partitions.committable() == {WATCHES: 10}, "the next owner would go on at 60"
    assert world.partitions.get(0).positions.is_answered("watch-events", 59)


def test_a_worker_that_keeps_a_partition_reads_on_where_it_is_whatever_the_changelog_is():
    """Its store lacks nothing."""
    world = World(logged(0, watch("A")))
    world.assign(committed=5)
    world.acknowledge(60)
    world.changelog.clear()
    world.changelog_identity = 2

    assert world.assign(committed=50) == 60


def test_a_changelog_that_was_created_anew_gets_every_window_again():
    """Its offsets begin at 0 again, which those of a topic that lives never do."""
    a, b = watch("A"), watch("B", user_id="u2")
    world = World(logged(0, a), logged(1, b, user_id="u2"))
    world.assign()
    world.changelog.clear()

    world.partitions.get(0).note_published([0])

    healing = world.heal()
    assert {key: decode(record) for key, record in healing.items()} == {
        b"u1": window(a),
        b"u2": window(b),
    }
    assert world.heal() == {}


@pytest.mark.parametrize("identity", [0, 2])
def test_a_changelog_created_anew_is_noticed_at_the_start_too(identity):
    """What others wrote to it since is merged, what it lacks is published."""
    a, b = watch("A"), watch("B", user_id="u2")
    world = World(logged(0, a), logged(1, a), logged(2, b, user_id="u2"))
    world.assign()
    world.partitions.close()
    world.changelog[:] = [logged(0, watch("C", at_ms=1))]
    world.changelog_identity = identity
    world.restart()

    world.assign()

    assert world.windows("u1")["u1"] == window(a, watch("C", at_ms=1))
    assert set(world.heal()) == {b"u1", b"u2"}


def test_an_empty_changelog_in_place_of_a_full_one_is_noticed():
    """There is nothing in it whose offset would give it away."""
    world = World(logged(0, watch("A")))
    world.assign()
    world.partitions.close()
    world.changelog.clear()
    world.restart()

    world.assign()

    assert set(world.heal()) == {b"u1"}


def test_a_large_store_is_published_in_slices():
    """However many users there are, only so many windows are in memory at once."""
    world = World(*(logged(n, watch("A"), user_id=f"u{n:04}") for n in range(2 * SLICE + 1)))
    world.assign()
    world.changelog.clear()
    world.partitions.get(0).note_published([0])

    sizes = [len(records) for _number, records in world.partitions.heal()]

    assert sizes == [SLICE, SLICE, 1]


def test_a_worker_that_dies_while_it_publishes_a_store_begins_again():
    """A changelog that has half of the windows is not taken for the whole."""
    world = World(*(logged(n, watch("A"), user_id=f"u{n:04}") for n in range(2 * SLICE)))
    world.assign()
    world.changelog.clear()
    world.changelog_identity = 2
    world.restart()
    world.assign()
    next(world.partitions.heal())
    world.restart()  # without closing: it was killed

    world.assign()

    assert len(world.heal()) == 2 * SLICE
    world.restart()
    world.assign()
    assert world.heal() == {}


def test_a_record_after_our_last_one_is_found_by_the_end_of_the_changelog():
    """A paused owner woke up: no offset of ours gives it away."""
    a, b = watch("A"), watch("B", at_ms=1)
    world = World(logged(0, a, b))
    world.assign()
    world.changelog.append(logged(1, a))
    assert not world.partitions.is_suspect

    world.note_changelog(end=2)

    assert world.partitions.is_suspect
    assert {key: decode(record) for key, record in world.heal().items()} == {b"u1": window(a, b)}
    assert not world.partitions.is_suspect


def test_a_changelog_that_is_made_anew_under_an_idle_worker_gets_every_window():
    """Nothing that it writes gives the new topic away: only the id does, once."""
    a = watch("A")
    world = World(logged(0, a))
    world.assign()
    world.changelog, world.changelog_identity = [], 2

    world.note_changelog(end=0)

    assert world.partitions.is_suspect
    assert {key: decode(record) for key, record in world.heal().items()} == {b"u1": window(a)}
    world.note_changelog(end=1)
    assert world.heal() == {}


def test_a_record_published_during_a_look_does_not_mean_another_changelog():
    """The end that it tells is older than our last record."""
    a = watch("A")
    world = World(logged(0, a))
    world.assign()
    marks = world.partitions.marks()
    world.partitions.get(0).note_published([1, 2])

    world.partitions.note_changelogs({Position(CHANGELOG, 0): Log(0, 1, 1)}, marks=marks)

    assert not world.partitions.is_suspect


def test_an_end_reported_while_the_changelog_is_read_is_read_next_time():
    """What a paused owner wrote meanwhile may lie behind where the reading has come."""
    a, b = watch("A"), watch("B", at_ms=1)
    world = World(logged(0, a, b))
    world.assign()
    world.changelog.append(logged(1, a, b))
    world.note_changelog(end=2)
    read = world.partitions._read_changelog

    def read_while_another_writes(start):
        yield from read(start)
        world.changelog.append(logged(2, a))
        world.note_changelog(end=3)

    world.partitions._read_changelog = read_while_another_writes
    assert world.heal() == {}
    world.partitions._read_changelog = read

    assert world.partitions.is_suspect
    assert {key: decode(record) for key, record in world.heal().items()} == {b"u1": window(a, b)}


def test_a_look_from_before_a_replacement_is_ignored():
    """Its offset is of the log before."""
    world = World(logged(0, watch("A")))
    world.assign()
    marks = world.partitions.marks()
    world.changelog, world.changelog_identity = [], 2
    world.note_changelog(end=0)
    world.heal()

    world.partitions.note_changelogs(
        {Position(CHANGELOG, 0): Log(0, 0, 2)}, marks=marks | {Position(CHANGELOG, 0): 9}
    )

    assert world.heal() == {}


@pytest.mark.parametrize("junk", [b"", b"\x04", bytes(range(200, 210)), b"\xff" * 40])
def test_a_changelog_record_that_cannot_be_read_is_replaced_by_what_is_here(junk):
    """Logged, and no owner ends of it."""
    a = watch("A")
    world = World(logged(0, a))
    world.assign()
    world.append(0, b"u1", junk)
    world.note_changelog(end=2)

    with capture_logs() as told:
        assert {key: decode(record) for key, record in world.heal().items()} == {b"u1": window(a)}
    assert "changelog_record_unreadable" in {line["event"] for line in told}


def test_many_unreadable_records_are_logged_in_few_lines():
    """A backlog of a stranger's does not fill the log."""
    world = World(*(LoggedWindow(0, number, b"u1", b"junk") for number in range(1_000)))

    with capture_logs() as told:
        world.assign()

    lines = [line for line in told if line["event"] == "changelog_record_unreadable"]
    assert [line["records"] for line in lines] == [2**number for number in range(10)]


def test_a_changelog_key_that_is_not_utf8_is_skipped():
    """It is no user of ours."""
    world = World(logged(0, watch("A")), LoggedWindow(0, 1, b"\xff\xfe", b"junk"))

    world.assign()

    assert world.windows("u1")["u1"] == window(watch("A"))


def test_a_changelog_record_of_newer_code_stops_the_worker():
    """Publishing over it would lose what only the newer code understands."""
    record = bytearray(logged(0, watch("A")).record)
    newer = history_codec.VERSION + 1
    body = bytes(record[9:])
    whole = bytes([newer]) + history_codec._checksum(newer, body) + body
    world = World(LoggedWindow(0, 0, b"u1", whole))

    with pytest.raises(NewerFormatError):
        world.assign()


def test_offsets_swapped_by_a_retry_within_one_delivery_are_not_a_gap():
    """They are all ours."""
    world = World()
    world.assign()

    world.partitions.get(0).note_published([1, 0])

    assert not world.partitions.is_suspect


def kept_alone(world, changelog):
    """Return what *world* publishes before it has a partition, where *changelog* is found."""
    found = world.partitions.kept_alone({0: changelog})
    return {key: record for _, records in found for key, record in records.items()}


def test_a_worker_that_starts_publishes_windows_whose_changelog_was_replaced():
    """The group may give the partition to another worker, and nobody else has these windows."""
    world = World(logged(0, watch("A")))
    world.assign(committed=5)
    world.partitions.close()
    world.restart()

    assert kept_alone(world, Log(0, 1, 1)) == {}, "the changelog has them"
    published = kept_alone(world, Log(0, 0, 2))
    assert decode(published[b"u1"]) == window(watch("A"))


@pytest.mark.parametrize("identity", [1, 0], ids=["same topic", "no ids"])
def test_nothing_is_published_to_a_changelog_that_was_cut_before_the_assignment(identity):
    """It would hide the cut, and what others folded since would never be read again."""
    world = World(logged(0, watch("A")), logged(1, watch("B"), user_id="u2"))
    world.changelog_identity = identity
    world.assign(committed=5)
    world.partitions.close()
    world.restart()

    assert kept_alone(world, Log(0, 1, identity)) == {}


def test_windows_published_before_the_assignment_are_published_at_it_again():
    """The store may be an old one: what others folded since is read again from the events."""
    world = World(logged(0, watch("A")))
    world.assign(committed=5)
    world.acknowledge(10)
    world.partitions.close()
    world.changelog.clear()
    world.changelog_identity = 2
    world.restart()
    for number, record in kept_alone(world, Log(0, 0, 2)).items():
        world.append(0, number, record)

    assert world.assign(committed=60) == 10
    assert world.heal().keys() == {b"u1"}


def test_a_windows_markers_are_published_with_it():
    """Else an event from before the erasure would bring the user back."""
    world = World(LoggedWindow(0, 0, marker_key(b"m" * 16), marker_record(7)))
    world.assign(committed=5)
    world.partitions.close()
    world.restart()

    assert kept_alone(world, Log(0, 0, 2)) == {marker_key(b"m" * 16): marker_record(7)}
