"""Warm copies of other workers' partitions: kept up to date, and handed over open."""

from threading import Event

from contract.errors import BrokerUnavailable
from contract.kafka.records import Position
from models.history import codec as history_codec
from models.history.history import EMPTY, WindowPolicy, fold
from streams.state.changelog import LoggedWindow
from streams.state.logs import Log
from streams.state.partitions import Partitions
from streams.state.standby import Standby
from tests.streams.state.dict_store import DictStore
from tests.support.builders import watch

POLICY = WindowPolicy()
WATCHES = Position("watch-events", 0)


def logged(offset, *events, partition=0):
    """Return a changelog record with u1's window of *events*."""
    record = history_codec.encode(fold(EMPTY, events, POLICY))
    return LoggedWindow(partition, offset, b"u1", record)


class World:
    """Two workers' partitions over one changelog: those owned, and the copies beside them."""

    def __init__(self, *changelog):
        self.changelog = list(changelog)
        self.read_from = []
        self.is_away = False
        self.is_wanted = Event()
        self.opened = []
        self.owned = self._partitions(self._read)
        self.copies = self._partitions(self._read)
        self.standby = Standby(self.copies, self.is_wanted)

    def _partitions(self, read):
        return Partitions(self._open, read, POLICY, rewind_records=10)

    def _open(self, number):
        self.opened.append(number)
        return DictStore()

    def _read(self, start):
        if self.is_away:
            raise BrokerUnavailable("away")
        self.read_from.append(dict(start))
        return [
            r for r in self.changelog if r.partition in start and r.offset >= start[r.partition]
        ]

    def take_over(self, *copied):
        """Make partition 0 ours and copy *copied*, as a rebalance does; return where to read on."""
        logs = {WATCHES: Log(0, 50), Position("changelog", 0): Log(0, len(self.changelog))}
        start = self.standby.assign(
            self.owned, {0}, lambda: self.owned.assign({WATCHES: 50}, logs), copied=copied
        )
        return start[WATCHES]


def test_a_takeover_reads_only_what_came_since_the_last_refresh():
    """The copy is the store from then on: nothing is opened or read twice."""
    a, b = watch("A"), watch("B", at_ms=1)
    world = World(logged(0, a))
    world.standby.follow({0})
    world.standby.refresh()
    world.changelog.append(logged(1, a, b))

    world.take_over()

    assert world.read_from == [{0: 0}, {0: 1}]
    assert world.opened == [0]
    assert world.owned.get(0).windows(["u1"])["u1"] == fold(EMPTY, [a, b], POLICY)


def test_a_copy_that_is_up_to_date_is_read_again_by_the_rewind_all_the_same():
    """Somebody else owned it, and may have been a paused one that overwrote newer records."""
    world = World(logged(0, watch("A")))
    world.standby.follow({0})
    world.standby.refresh()

    assert world.take_over() == 40


def test_a_partition_of_ours_is_not_copied():
    """Within one process a partition has one holder, whatever the group says."""
    world = World()
    world.take_over(0, 1)

    world.standby.refresh()

    assert world.opened == [0, 1]


def test_nothing_is_followed_in_the_middle_of_a_rebalance():
    """What was ours is about to be somebody else's, and the other way round."""
    world = World()
    world.standby.follow({0})
    world.standby.hand_over({0}, world.owned)

    world.standby.refresh()

    assert world.opened == []


def test_partitions_that_another_worker_copies_now_are_closed():
    """Only what is followed stays open."""
    world = World()
    world.standby.follow({0, 1})
    world.standby.refresh()
    world.standby.follow({1})
    world.standby.refresh()

    assert world.copies.release({0, 1})[0].number == 1


def test_a_broker_that_is_away_leaves_the_copies_behind_and_nothing_else():
    """The next refresh catches up; the worker does its own work meanwhile."""
    world = World(logged(0, watch("A")))
    world.standby.follow({0})
    world.is_away = True
    world.standby.refresh()
    world.is_away = False

    world.standby.refresh()

    assert world.copies.marks() == {Position("changelog", 0): 1}


def test_closing_leaves_no_copy_open():
    """The next start finds clean stores."""
    world = World()
    world.standby.follow({0})
    world.standby.refresh()

    world.standby.close()

    assert world.copies.marks() == {}
