"""A trainer that is killed at any moment ends in the state, bit for bit, of one that never was.

The order of records of several partitions, and when batches and generations begin, differ between
any two runs. So the run to compare with is one that takes the whole journal of the killed one, in
one go, from nothing.
"""

import os
import random
import shutil
import signal
import threading
from contextlib import suppress
from hashlib import sha256
from itertools import count
from time import monotonic, sleep

import msgspec
import pytest

from contract.process.settings import KafkaSettings
from contract.wire.topics import (
    IMPRESSIONS,
    SEARCH_EVENTS,
    USER_DELETIONS,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
)
from models.history.history import WindowPolicy
from nextwatch.topics.topics import reconcile
from tests.support.builders import deletion, search, shown, upload, watch
from tests.trainer.real_process import PATIENCE_S, Neighbours, Process
from trainer.input.windows import Windows
from trainer.ranking.join_store import RocksJoinStore
from trainer.state import checkpoint_codec
from trainer.state.checkpoint import Checkpoints
from trainer.state.journal import (
    BatchLearned,
    GenerationBegun,
    Journal,
    RecordsTaken,
    VectorsPublished,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.long]
SEED = int(os.environ.get("NEXTWATCH_TEST_SEED", "1"))
NUM_KILLS = int(os.environ.get("NEXTWATCH_TEST_KILLS", "6"))
NUM_VIDEOS = 50
NUM_USERS = 23
STEP_MS = 400
QUIET = {"publish_every_s": 3_600, "fast_path_s": 3_600, "checkpoint_every_s": 1}
PATIENT = {"batch_wait_ms": 60_000, "catalogue_wait_s": 300}
SETTINGS = {"batch_size": 16, "label_window_ms": 4_000, "join_keep_ms": 3_600_000}


@pytest.fixture
def kafka(broker):
    """How to reach the broker, with several partitions to each topic."""
    settings = KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers,
        topic_prefix=f"exact{SEED}-",
        user_partitions=3,
        video_partitions=2,
        fetch_max_wait_ms=10,
    )
    reconcile(settings)
    return settings


class Players(threading.Thread):
    """Produce events to all partitions for as long as nobody stops them."""

    def __init__(self, neighbours, rng):
        super().__init__(daemon=True)
        self._neighbours, self._rng = neighbours, rng
        self._is_over = threading.Event()
        self.num_steps = 0
        self.num_sent = NUM_VIDEOS
        """With the uploads of before."""

    def run(self):
        while not self._is_over.wait(0.1):
            self._step()

    def stop(self):
        self._is_over.set()
        self.join()

    def _send(self, topic, event):
        self._neighbours.send(topic, event)
        self.num_sent += 1

    def _step(self):
        self.num_steps += 1
        at_ms = self.num_steps * STEP_MS
        for _ in range(2):
            user_id = f"u{self._rng.randrange(NUM_USERS)}"
            video_ids = [f"v{n}" for n in self._rng.sample(range(NUM_VIDEOS), 3)]
            self._send(IMPRESSIONS, shown(*video_ids, user_id=user_id, at_ms=at_ms))
            self._send(
                WATCH_EVENTS,
                watch(self._rng.choice(video_ids), user_id=user_id, at_ms=at_ms + 100),
            )
        if self.num_steps % 10 == 0:
            self._send(SEARCH_EVENTS, search(user_id=user_id, at_ms=at_ms + 200))
        if self.num_steps % 15 == 0:
            self._send(VIDEO_UPLOADS, upload(f"new{self.num_steps}"))
        if self.num_steps % 40 == 0:
            self._send(USER_DELETIONS, deletion(user_id=user_id, at_ms=at_ms))


class Archive(threading.Thread):
    """Keep a link to every segment of the journal, also once the trainer has deleted it."""

    def __init__(self, source, target):
        super().__init__(daemon=True)
        self._source, self._target = source, target
        self._is_over = threading.Event()
        target.mkdir()

    def run(self):
        while not self._is_over.wait(0.005):
            self.link()

    def stop(self):
        self._is_over.set()
        self.join()
        self.link()

    def link(self):
        for path in self._source.glob("journal-*"):
            if not (self._target / path.name).exists():
                with suppress(FileNotFoundError):
                    os.link(path, self._target / path.name)


def digests(directory, scratch):
    """Return a digest of each part of the newest checkpoint in *directory*."""
    newest = Checkpoints(directory).newest()
    windows = Windows(WindowPolicy(), max_users=10**6)
    files = dict(newest.files)
    windows.load(files.pop(checkpoint_codec.WINDOWS), files.pop(checkpoint_codec.WINDOWS_SINCE))
    found = {name: sha256(data).hexdigest() for name, data in files.items()}
    found["windows"] = sha256(
        repr([(user_id, windows.get(user_id)) for user_id in windows]).encode()
    ).hexdigest()
    store = RocksJoinStore(scratch)
    store.load(newest.directories[checkpoint_codec.JOINER])
    entries = list(store.scan(b"", b"\xff" * 80))
    store.close()
    found["joiner"] = sha256(repr(entries).encode()).hexdigest()
    found["offsets"] = repr(sorted((k, sorted(v.items())) for k, v in newest.offsets.items()))
    counts = msgspec.msgpack.decode(files[checkpoint_codec.REST])["counts"]
    return found, counts, len(entries)


def num_read(directory):
    """Return how many records the newest checkpoint in *directory* stands after."""
    newest = Checkpoints(directory).newest()
    return sum(sum(offsets.values()) for offsets in newest.offsets.values()) if newest else 0


def transitions_of(directory):
    """Return all transitions of the journal in *directory*."""
    journal = Journal(directory)
    found = journal.resume(0)
    journal.close()
    return found


def killed_at_random(process, neighbours, rng):
    """Let the trainer live for a while, and kill it: at any time, or in the middle of saving."""
    process.start()
    kind = rng.choice(["any time", "saving", "saving", "any time", "starting"])
    if kind == "starting":
        sleep(rng.uniform(1.5, 5.0))
    else:
        neighbours.wait_until(process.ready.exists)
        sleep(rng.uniform(0.0, 3.0))
    end_s = monotonic() + PATIENCE_S
    while kind == "saving" and not list(process.checkpoints.glob("ckpt-*.tmp")):
        assert monotonic() < end_s
        sleep(0.001)
    sleep(rng.uniform(0.0, 0.02))
    process.end(signal.SIGKILL)
    process.ready.unlink(missing_ok=True)


def ended_once_one_published(process, neighbours, archive):
    """Let the trainer live until one has published vectors, however slow the machine; end it."""
    process.start()
    neighbours.wait_until(process.ready.exists)
    tag = VectorsPublished.__struct_config__.tag.encode()
    neighbours.wait_until(
        lambda: any(tag in segment.read_bytes() for segment in archive.glob("journal-*"))
    )
    assert process.end(signal.SIGTERM) == 0
    process.ready.unlink(missing_ok=True)


@pytest.fixture
def started(kafka, tmp_path):
    """A function that makes a trainer process, which is ended after the test."""
    processes = []

    def make(name, **settings):
        (tmp_path / name).mkdir(exist_ok=True)
        processes.append(Process(kafka, tmp_path / name, **SETTINGS, **settings))
        return processes[-1]

    yield make
    for process in processes:
        if process.child is not None and process.child.poll() is None:
            process.end(signal.SIGKILL)


def test_killed_at_any_moment_it_ends_bit_for_bit_as_if_it_had_not_been(kafka, started, tmp_path):
    """Weights, optimisers, generators, windows, counters, what waits, and the joiner."""
    rng = random.Random(SEED)
    neighbours = Neighbours(kafka)
    neighbours.send(VIDEO_UPLOADS, *(upload(f"v{n}") for n in range(NUM_VIDEOS)))
    players = Players(Neighbours(kafka), random.Random(SEED))
    process = started("killed")
    archive = Archive(process.checkpoints, tmp_path / "archive")
    for thread in (players, archive):
        thread.start()

    for _ in range(NUM_KILLS):
        killed_at_random(process, neighbours, rng)
    ended_once_one_published(process, neighbours, tmp_path / "archive")
    players.stop()
    last = started("killed", **QUIET, catalogue_wait_s=300)
    last.start()
    neighbours.wait_until(last.ready.exists)
    turn = count()
    neighbours.wait_until(
        lambda: next(turn) % 20 == 0 and num_read(last.checkpoints) == players.num_sent
    )
    assert last.end(signal.SIGTERM) == 0
    archive.stop()

    whole = tmp_path / "undisturbed" / "checkpoints"
    shutil.copytree(tmp_path / "archive", whole)
    transitions = transitions_of(whole)
    undisturbed = started("undisturbed", **QUIET, **PATIENT)
    undisturbed.start()
    neighbours.wait_until(undisturbed.ready.exists)
    assert undisturbed.end(signal.SIGTERM) == 0
    neighbours.close()

    expected, _, _ = digests(whole, tmp_path / "expected")
    found, counts, num_entries = digests(process.checkpoints, tmp_path / "found")
    assert found == expected
    assert {type(one) for one in transitions} >= {
        RecordsTaken,
        BatchLearned,
        VectorsPublished,
        GenerationBegun,
    }
    assert counts["ranking_negatives"] > 0
    assert num_entries > 0
    assert offsets_of(transitions) == {}


def offsets_of(transitions):
    """Return where a record was skipped or taken twice, by partition."""
    expected, wrong = {}, {}
    for one in transitions:
        for run in one.runs if isinstance(one, RecordsTaken) else ():
            at = run.topic, run.partition
            if run.first != expected.get(at, 0) or run.last - run.first + 1 != run.count:
                wrong.setdefault(at, run)
            expected[at] = run.last + 1
    return wrong
