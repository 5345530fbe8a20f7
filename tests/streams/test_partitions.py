"""Owning partitions: which windows they start from, and where they read on."""

from contract.clock import ManualClock
from contract.records import Position
from models import history_codec
from models.history import EMPTY, WindowPolicy, fold
from models.history_codec import decode
from streams.changelog import LoggedWindow
from streams.partitions import CHANGELOG, Partitions
from streams.store import DictStore
from tests.builders import watch

POLICY = WindowPolicy()
WATCHES = Position("watch-events", 0)


def window(*events):
    """Return the window of *events*."""
    return fold(EMPTY, events, POLICY)


def logged(offset, *events, user_id="u1", partition=0):
    """Return a changelog record with the window of *events*."""
    return LoggedWindow(partition, offset, user_id.encode(), history_codec.encode(window(*events)))


class World:
    """One partition's store and changelog, and a worker that may own it."""

    def __init__(self, *changelog, rewind=0):
        self.changelog = list(changelog)
        self.stores = {}
        self.partitions = Partitions(
            lambda number: self.stores.setdefault(number, DictStore()),
            self._read,
            POLICY,
            rewind_records=rewind,
            clock=ManualClock(),
        )

    def _read(self, start):
        return [
            r for r in self.changelog if r.partition in start and r.offset >= start[r.partition]
        ]

    def read_from_start_if_out_of_range(self):
        """Answer as a broker does: an offset beyond the end resets the reader to the beginning."""
        everything = list(self.changelog)
        self.partitions._read_changelog = lambda start: everything if start else []

    def assign(self, committed=None, earliest=0):
        return self.partitions.assign({WATCHES: committed}, {WATCHES: earliest})[WATCHES]

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


def test_it_reads_on_from_the_lower_of_store_and_group():
    """Neither may skip what the other has not seen."""
    world = World()
    world.stores[0] = DictStore()
    world.stores[0].write({}, {"watch-events": 30})

    assert world.assign(committed=20) == 20


def test_it_reads_a_stretch_again_after_somebody_else_wrote():
    """The rewind heals what a paused owner overwrote; it ends at what the topic still has."""
    assert World(logged(0, watch("A")), rewind=15).assign(committed=20) == 5
    assert World(logged(0, watch("A")), rewind=15).assign(committed=20, earliest=9) == 9


def test_a_partition_that_stays_is_not_read_again():
    """A rebalance that moves others costs this one nothing."""
    world = World(rewind=15)
    world.assign(committed=20)
    world.partitions.get(0).acknowledged["watch-events"] = 33

    assert world.assign(committed=20) == 33


def test_only_acknowledged_offsets_beyond_the_groups_are_committable():
    """A rewind never takes the group's offset back."""
    world = World(logged(0, watch("A")), rewind=15)
    world.assign(committed=20)
    assert world.partitions.committable() == {}

    world.partitions.get(0).acknowledged["watch-events"] = 21
    assert world.partitions.committable() == {WATCHES: 21}


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
    assert World().assign(committed=20, earliest=7) == 7


def test_a_changelog_that_was_created_anew_gets_every_window_again():
    """Its offsets begin at 0 again, which those of a topic that lives never do."""
    a, b = watch("A"), watch("B", user_id="u2")
    world = World(logged(0, a), logged(1, b, user_id="u2"))
    world.assign()
    world.changelog.clear()

    world.partitions.get(0).note_published([0])

    healing = world.partitions.heal(is_thorough=False)[0]
    assert {key: decode(record) for key, record in healing.items()} == {
        b"u1": window(a),
        b"u2": window(b),
    }


def test_a_changelog_created_anew_is_noticed_at_the_start_too():
    """What others wrote to it since is merged, what it lacks is published."""
    a, b = watch("A"), watch("B", user_id="u2")
    world = World(logged(0, a), logged(1, a), logged(2, b, user_id="u2"))
    world.assign()
    world.partitions.close()
    world.changelog[:] = [logged(0, watch("C", at_ms=1))]
    world.read_from_start_if_out_of_range()

    world.assign()

    assert world.windows("u1")["u1"] == window(a, watch("C", at_ms=1))
    assert set(world.partitions.heal(is_thorough=False)[0]) == {b"u1", b"u2"}


def test_offsets_that_a_retry_swapped_within_one_delivery_are_no_gap():
    """They are all ours."""
    world = World()
    world.assign()

    world.partitions.get(0).note_published([1, 0])

    assert not world.partitions.is_suspect
