"""Owning partitions: which windows they start from, and where they read on."""

import pytest
from structlog.testing import capture_logs

from contract.errors import NewerFormatError
from contract.records import Position
from models import history_codec
from models.history import EMPTY, WindowPolicy, fold
from models.history_codec import decode
from streams.changelog import LoggedWindow
from streams.logs import Log
from streams.partition import CHANGELOG
from streams.partitions import SLICE, Partitions
from streams.store import DictStore
from tests.builders import watch

POLICY = WindowPolicy()
WATCHES = Position("watch-events", 0)
TOPIC = Log(0, 100, 7)


def window(*events):
    """Return the window of *events*."""
    return fold(EMPTY, events, POLICY)


def logged(offset, *events, user_id="u1", partition=0):
    """Return a changelog record with the window of *events*."""
    return LoggedWindow(partition, offset, user_id.encode(), history_codec.encode(window(*events)))


class World:
    """One partition's store, log and changelog, and a worker that may own it."""

    def __init__(self, *changelog, rewind=0):
        self.changelog = list(changelog)
        self.changelog_identity = 1
        self.stores = {}
        self.rewind = rewind
        self.restart()

    def restart(self):
        """Start a worker that finds the stores as the last one left them."""
        self.partitions = Partitions(
            lambda number: self.stores.setdefault(number, DictStore()),
            self._read,
            POLICY,
            rewind_records=self.rewind,
        )

    def note_changelog(self, end):
        """Tell the worker what the changelog is now."""
        at, marks = Position(CHANGELOG, 0), self.partitions.marks()
        changelog = Log(0, end, self.changelog_identity)
        self.partitions.note_changelogs({at: changelog}, marks=marks)

    def _read(self, start):
        return [
            r for r in self.changelog if r.partition in start and r.offset >= start[r.partition]
        ]

    def assign(self, committed=None, source=TOPIC):
        end = max((record.offset + 1 for record in self.changelog), default=0)
        logs = {WATCHES: source, Position(CHANGELOG, 0): Log(0, end, self.changelog_identity)}
        return self.partitions.assign({WATCHES: committed}, logs)[WATCHES]

    def acknowledge(self, offset):
        self.partitions.get(0).positions.acknowledge({"watch-events": offset})

    def heal(self):
        """Return what is to be published, and publish it."""
        healing = {}
        for number, records in self.partitions.heal():
            healing |= records
            for key, record in records.items():
                self.append(number, key, record)
            partition = self.partitions.get(number)
            partition.note_published([each.offset for each in self.changelog[-len(records) :]])
        return healing

    def append(self, number, key, record):
        offset = max((each.offset + 1 for each in self.changelog), default=0)
        self.changelog.append(LoggedWindow(number, offset, key, record))

    def windows(self, *user_ids):
        return self.partitions.get(0).windows(user_ids)


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


def test_it_reads_a_stretch_again_after_somebody_else_wrote():
    """The rewind heals what a paused owner overwrote; it ends at what the topic still has."""
    assert World(logged(0, watch("A")), rewind=15).assign(committed=20) == 5
    assert World(logged(0, watch("A")), rewind=15).assign(20, Log(9, 100, 7)) == 9


def test_a_partition_that_stays_is_not_read_again():
    """A rebalance that moves others costs this one nothing."""
    world = World(rewind=15)
    world.assign()
    world.acknowledge(33)

    assert world.assign(committed=20) == 33


def test_records_that_retention_took_are_told_and_passed_over():
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


def test_a_topic_that_was_made_anew_is_told_by_its_id():
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


def test_what_is_published_while_the_broker_is_asked_is_no_sign_of_another_changelog():
    """The end that it tells is older than our last record."""
    a = watch("A")
    world = World(logged(0, a))
    world.assign()
    marks = world.partitions.marks()
    world.partitions.get(0).note_published([1, 2])

    world.partitions.note_changelogs({Position(CHANGELOG, 0): Log(0, 1, 1)}, marks=marks)

    assert not world.partitions.is_suspect


def test_an_end_that_is_told_while_the_changelog_is_read_is_read_next_time():
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


def test_an_answer_to_a_look_from_before_a_replacement_was_noticed_says_nothing():
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


def test_many_records_that_cannot_be_read_are_told_in_few_lines():
    """A backlog of a stranger's does not fill the log."""
    world = World(*(LoggedWindow(0, number, b"u1", b"junk") for number in range(1_000)))

    with capture_logs() as told:
        world.assign()

    lines = [line for line in told if line["event"] == "changelog_record_unreadable"]
    assert [line["records"] for line in lines] == [2**number for number in range(10)]


def test_a_changelog_key_that_is_no_text_is_passed_over():
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


def test_offsets_that_a_retry_swapped_within_one_delivery_are_no_gap():
    """They are all ours."""
    world = World()
    world.assign()

    world.partitions.get(0).note_published([1, 0])

    assert not world.partitions.is_suspect
