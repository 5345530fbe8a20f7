"""One worker that may own partition 0: its store, the log it reads, and a changelog in memory."""

from contract.kafka.records import Position
from models.history import codec as history_codec
from models.history.history import EMPTY, WindowPolicy, fold
from streams.state.changelog import LoggedWindow
from streams.state.logs import Log
from streams.state.partition import CHANGELOG
from streams.state.partitions import Partitions
from tests.streams.state.dict_store import DictStore

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
