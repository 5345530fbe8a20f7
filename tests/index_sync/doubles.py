"""Stand-ins of this process's surroundings, which write what happens into one journal."""

from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from contract.errors import BundleError, ContractError, StoreUnavailable
from contract.kafka.records import Position, Received
from contract.process.clock import ManualClock
from contract.wire.events import BundleAnnouncement, BundleState, encode
from contract.wire.topics import ITEM_VECTORS, MODEL_BUNDLES, VIDEO_UPLOADS, Layout
from index_sync.background import Background
from index_sync.bundles.loaded_bundle import LoadedBundle
from index_sync.collections.collections import GenerationCollections
from index_sync.collections.generation import Point
from index_sync.publisher import Publisher
from index_sync.settings import IndexSettings
from index_sync.worker import Worker
from models.serving.items import RANKING_FEATURE_NAMES, ItemSnapshot
from tests.support.builders import T0, item_vector
from tests.support.memory_outbox import MemoryOutbox

PREFIX = "test"


class Crash(Exception):  # noqa: N818 - the name states the condition
    """The process is gone."""


@dataclass
class Journal:
    """What was done, in order; `crash_at` ends the process right before its n-th entry."""

    done: list = field(default_factory=list)
    crash_at: int | None = None

    def note(self, *entry):
        """Write an entry, or crash instead."""
        if self.crash_at is not None and len(self.done) >= self.crash_at:
            raise Crash
        self.done.append(entry)


class MemoryIndex:
    """`index_sync.collections.index.VectorIndex` in dictionaries."""

    def __init__(self, journal=None):
        self.journal = journal or Journal()
        self.points: dict[str, dict[str, Point]] = {}
        self.aliases: dict[str, str] = {}
        self.owner = "us"
        self.owners: dict[str, str] = {}

    def collections(self):
        return set(self.points)

    def create_empty(self, collection, dim):
        if self.is_foreign(collection):
            raise ContractError(f"{collection} is of {self.owners[collection]}")
        self.journal.note("create", collection)
        self.points[collection] = {}
        self.owners[collection] = self.owner

    def owner_of(self, collection):
        return self.owners.get(collection)

    def is_foreign(self, collection):
        return self.owner_of(collection) not in (None, self.owner)

    def claim(self, collection):
        self.journal.note("claim", collection)
        self.owners[collection] = self.owner

    def drop(self, collection):
        self.journal.note("drop", collection)
        self.points.pop(collection, None)
        self.owners.pop(collection, None)

    def upsert(self, collection, points):
        self.journal.note("upsert", collection, sorted(point.video_id for point in points))
        self.points[collection].update({point.video_id: point for point in points})

    def delete(self, collection, video_ids):
        self.journal.note("delete", collection, sorted(video_ids))
        for video_id in video_ids:
            self.points[collection].pop(video_id, None)

    def count(self, collection):
        return len(self.points[collection])

    def versions(self, collection):
        return {video_id: point.version for video_id, point in self.points[collection].items()}

    def point_alias(self, alias, collection):
        if collection not in self.points:
            raise ContractError(f"{collection} vanished from the index")
        self.journal.note("alias", collection)
        self.aliases[alias] = collection


@dataclass
class Log:
    """One partition of one topic, and how far it was committed."""

    topic: object
    journal: Journal
    records: list[Received] = field(default_factory=list)
    committed: dict[int, int] = field(default_factory=dict)

    def append(self, event=None, *, key=None, value=None, num_partitions=0):
        """Add an event, a tombstone (only *key*), or any bytes."""
        if event is not None:
            key, value = getattr(event, self.topic.key_field), encode(event)
        key = key.encode() if isinstance(key, str) else key
        record = Received(self.topic.name, 0, len(self.records), key, value)
        self.records.append(replace(record, num_partitions=num_partitions))
        return self.records[-1]


class LogSource:
    """`index_sync.source.Source` over a `Log`."""

    def __init__(self, log):
        self.log = log
        self.committed = dict(log.committed)
        self.newest_ms = {}
        self._at = None

    def open(self, *, from_beginning):
        self._at = 0 if from_beginning else self.committed.get(0, 0)

    def read_to_end(self):
        return self.take(len(self.log.records))

    def take(self, count, *, wait_s=0.0):
        taken = self.log.records[self._at : self._at + count]
        self._at += len(taken)
        self.newest_ms |= {record.at: record.ingested_at_ms for record in taken}
        return taken

    def num_behind(self):
        return {Position(self.log.topic.name, 0): len(self.log.records) - (self._at or 0)}

    def commit(self, next_offsets):
        if next_offsets:
            self.log.journal.note("commit", self.log.topic.name, dict(next_offsets))
            self.log.committed |= next_offsets
            self.committed |= next_offsets


class LogOutbox(MemoryOutbox):
    """Its records land in logs when they are acknowledged, letters in `reasons`."""

    def __init__(self, journal, logs):
        super().__init__()
        self.journal, self.logs = journal, logs
        self.reasons = []

    def on_acknowledged(self, records):
        if records:
            self.journal.note(
                "acknowledged", [(one.topic, one.key.decode(errors="replace")) for one in records]
            )
        for record in records:
            if record.topic in self.logs:
                self.logs[record.topic].append(key=record.key, value=record.value)
            else:
                self.reasons.append(dict(record.headers)["dlq.reason"].decode())


class Tower:
    """Embeds a video as the direction of its duration; each generation turns by its number."""

    def __init__(self, generation):
        self.generation = generation

    def encode(self, uploads):
        angles = np.array([u.duration_ms + 1_000 * self.generation for u in uploads], float)
        vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        vectors[[u.video_id == "not-finite" for u in uploads]] = np.nan
        return vectors.reshape(-1, 2), vectors.reshape(-1, 2)


def snapshot(*video_ids):
    """Return a snapshot of *video_ids*, all of them pointing north."""
    vectors = np.tile(np.array([[0.0, 1.0]], np.float32), (len(video_ids), 1))
    features = np.zeros((len(video_ids), len(RANKING_FEATURE_NAMES)))
    return ItemSnapshot(list(video_ids), vectors, vectors, features)


class Inline:
    """Runs background tasks at once, or, while `is_held`, when the test says so."""

    def __init__(self):
        self.is_held = False
        self._waiting = []

    def __call__(self, task):
        future = Future()
        self._waiting.append((future, task))
        if not self.is_held:
            self.finish()
        return future

    def finish(self):
        waiting, self._waiting = self._waiting, []
        for future, task in waiting:
            try:
                future.set_result(task())
            except Exception as error:  # noqa: BLE001 - as an executor does
                future.set_exception(error)


class World:
    """The logs and the index, which outlive a worker, and the workers that come and go."""

    def __init__(self, **settings):
        self.journal = Journal()
        topics = (VIDEO_UPLOADS, MODEL_BUNDLES, ITEM_VECTORS)
        self.logs = {topic.name: Log(topic, self.journal) for topic in topics}
        self.index = MemoryIndex(self.journal)
        self.snapshots = {}
        self.num_failures = 0
        self.monotonic_s = 0.0
        self.background = Inline()
        self.clock = ManualClock(T0)
        self.settings = IndexSettings(**settings)
        self.outbox = LogOutbox(self.journal, self.logs)

    @property
    def uploads(self):
        return self.logs[VIDEO_UPLOADS.name]

    @property
    def vectors(self):
        return self.logs[ITEM_VECTORS.name]

    def announce(self, generation, state=BundleState.OFFERED, *, video_ids=None):
        """Let the bundle of *generation* reach *state*; *video_ids* are in its snapshot."""
        if video_ids is not None:
            self.snapshots[generation] = snapshot(*video_ids)
        announcement = BundleAnnouncement(
            bundle_id=f"b{generation}",
            generation=generation,
            state=state,
            url="memory://b",
            manifest_sha256="0" * 64,
            announced_at_ms=T0,
        )
        self.logs[MODEL_BUNDLES.name].append(announcement)
        return announcement

    def states(self):
        """Return what was last said of each bundle."""
        said = {}
        for record in self.logs[MODEL_BUNDLES.name].records:
            name, value = record.key.decode(), record.value
            said[name] = value and value.split(b'"state":"')[1].split(b'"')[0].decode()
        return said

    def worker(self):
        """Start a worker on what is there."""
        self.outbox = LogOutbox(self.journal, self.logs)
        worker = Worker(
            self.settings,
            LogSource(self.uploads),
            LogSource(self.logs[MODEL_BUNDLES.name]),
            LogSource(self.vectors),
            GenerationCollections(self.index, PREFIX),
            Publisher(self.outbox, Layout(), self.clock),
            self.open_bundle,
            Background(self.background),
            self.clock,
            monotonic=lambda: self.monotonic_s,
        )
        worker.start()
        return worker

    def open_bundle(self, announcement):
        if self.num_failures:
            self.num_failures -= 1
            raise StoreUnavailable("the store is away")
        if announcement.generation not in self.snapshots:
            raise BundleError("no such bundle")
        number = announcement.generation
        return LoadedBundle(2, 2, self.snapshots[number], Tower(number))

    def settled(self, worker):
        """Turn until nothing is left to do."""
        while True:
            before = len(self.journal.done), worker.building is not None
            worker.turn()
            if before == (len(self.journal.done), False):
                return worker

    def points(self, generation):
        """Return the points of a generation: vector and version by video id."""
        return self.index.points[f"{PREFIX}-g{generation}"]


NORTH, EAST = (0.0, 1.0), (1.0, 0.0)


def trained(video_id="v1", vector=EAST, *, generation=1, at_ms=1):
    """Return a trained vector, *at_ms* after T0."""
    made = item_vector(video_id, vector, generation=generation)
    return msgspec.structs.replace(made, updated_at_ms=T0 + at_ms)
