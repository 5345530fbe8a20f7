"""Stand-ins for what the trainer learns with, reads from and writes to, and their journal."""

import msgspec
import numpy as np

from contract.kafka.records import Received
from contract.wire.events import BundleAnnouncement, BundleState, encode
from contract.wire.topics import MODEL_BUNDLES, TOPICS
from models.bundle.bundle import Card
from models.features.examples import CompletionRule
from models.features.features import FeatureEncoder
from models.features.vocabulary import Vocabulary
from models.history.history import HOUR_MS, WindowPolicy
from models.serving.items import ItemSnapshot
from models.serving.ranking import RankerParams
from models.training.frozen import NUM_FROZEN
from models.training.replay import encode_examples
from tests.support.builders import T0
from tests.support.memory_outbox import MemoryOutbox
from trainer.evaluate.popularity import Popularity
from trainer.input.windows import Windows
from trainer.learn.learner import Learner
from trainer.state.training_state import TrainingState

DIM = 4
FEATURES = FeatureEncoder(content_buckets=2, context_buckets=2, completion=CompletionRule())
BY_NAME = {topic.name: topic for topic in TOPICS}


class RecordingLearner(Learner):
    """A test double: learns nothing, records every example that it is given, and their order."""

    ranker_params = RankerParams()

    def __init__(self, journal=None):
        self.journal = journal if journal is not None else []
        self.vocabulary = Vocabulary(FEATURES)
        self.seen = []
        self.frozen = []
        self.forgotten = []
        self.studied = []
        self.loss = 1.0
        self.num_steps = 0
        self.touched = set()

    def upload(self, upload):
        is_changed = self.vocabulary.differs(upload)
        self.vocabulary.put(upload)
        return is_changed

    def turn_back(self, now_ms, *, latest_ms):
        return False

    def remove(self, video_id):
        self.vocabulary.remove(video_id)
        self.touched.discard(video_id)

    def forget(self, user_id):
        self.forgotten.append(user_id)

    def encode(self, examples):
        return encode_examples(examples, FEATURES, lambda ids: np.zeros(len(ids), np.int32))

    def similarity(self, encoded):
        self.journal.append(("score", encoded.video_ids))
        return np.zeros((len(encoded), len(self.video_ids)), np.float32)

    def kept_similarity(self, encoded, *, most):
        return self.similarity(encoded)

    def learn(self, encoded):
        self.journal.append(("learn", encoded.video_ids))
        self.seen += [
            f"{one.user_id}/{one.video_id}/{one.event_time_ms - T0}" for one in encoded.examples
        ]
        self.touched |= set(encoded.video_ids)
        return self.loss

    def learn_histories(self, histories, recipe, *, span_ms, most=None, **_options):
        self.studied.append(([one.user_id for one in histories], most))

    def count(self, viewings):
        self.touched |= {viewing.video_id for viewing in viewings}

    def drop(self, generation):
        self.frozen.remove(generation)

    def freeze(self, generation, *, in_service=None):
        self.journal.append(("freeze", generation))
        self.frozen = sorted({*self.frozen, generation})[-NUM_FROZEN:]

    def vectors(self, video_ids, *, generation):
        if generation not in self.frozen:
            raise ValueError(f"generation {generation} is not kept; kept: {self.frozen}")
        if not self.vocabulary.live_rows(video_ids).all():
            raise ValueError("unknown videos")
        return self._vectors(video_ids), self._vectors(video_ids)

    def drain_touched(self):
        touched, self.touched = self.touched, set()
        return touched

    def drain_touched_rows(self):
        rows = self.vocabulary.live_rows(sorted(self.drain_touched()))
        return np.sort(rows[rows > 0]).astype(np.int64)

    def bundle_files(self):
        self.journal.append(("export",))
        return {}

    def card(self, *, bundle_id, generation, offsets, metrics):
        return Card(
            bundle_id=bundle_id,
            generation=generation,
            model="recording",
            input_dim=DIM,
            output_dim=DIM,
            content_buckets=2,
            context_buckets=2,
            min_watch_ms=18_000,
            offsets=offsets,
            metrics=metrics,
        )

    def snapshot(self, features_NF):
        live = np.flatnonzero(self.is_live_N)
        video_ids = [self.video_ids[column] for column in live.tolist()]
        vectors = self._vectors(video_ids)
        return ItemSnapshot(video_ids, vectors, vectors, features_NF[live])

    def state(self):
        vocabulary = np.frombuffer(self.vocabulary.encoded(), np.uint8)
        arrays = {"frozen": np.array(self.frozen, np.int64), "vocabulary": vocabulary}
        return arrays, {"seen": self.seen}

    def load_state(self, arrays, meta):
        self.frozen = arrays["frozen"].tolist()
        self.vocabulary.load(arrays["vocabulary"].tobytes())
        self.seen = list(meta["seen"])

    def _vectors(self, video_ids):
        vectors = np.zeros((len(video_ids), DIM), np.float32)
        vectors[:, 0] = 1.0
        return vectors


class JournalOutbox(MemoryOutbox):
    """Writes down what is sent, and when somebody waits for it."""

    def __init__(self, journal=None):
        super().__init__()
        self.journal = journal if journal is not None else []

    def send(self, records):
        self.journal += [("send", record.topic) for record in records]
        return super().send(records)

    def on_acknowledged(self, records):
        self.journal.append(("acknowledged",))

    def announcements(self):
        """Return the announcements sent so far."""
        return [
            msgspec.json.decode(record.value, type=BundleAnnouncement)
            for record in self.sent
            if record.topic == MODEL_BUNDLES.name
        ]


class ScriptedFeed:
    """Gives of one batch at each poll what is open; the first is what there was at the start."""

    def __init__(self, *batches):
        self.batches = list(batches)
        self.next_offsets = {}
        self.topic_ids = {}
        self.opened = []
        self.told = []
        self.num_polls = 0
        self.replayed = []

    def commit(self, offsets):
        self.told.append(offsets)

    def open(self, topics, offsets, topic_ids=()):
        self.opened.append(([topic.name for topic in topics], dict(offsets)))
        self.num_polls = 0

    @property
    def is_verified(self):
        return self.num_polls > 0

    def note_ids(self):
        self.topic_ids |= dict.fromkeys(self.next_offsets, 7)

    def poll(self, *, most, timeout_s):
        self.num_polls += 1
        batch = self.batches.pop(0) if self.batches else []
        records = [record for record in batch if record.topic in self.opened[-1][0]]
        if later := [record for record in batch if record not in records]:
            self.batches.insert(0, later)
        for record in records:
            self.next_offsets.setdefault(record.topic, {})[record.partition] = record.offset + 1
        return records

    def has_read(self, topics):
        return self.num_polls > 0

    def at_end(self):
        return set()

    def num_behind(self):
        return {}

    def records_left(self):
        return sum(len(batch) for batch in self.batches)

    def forget(self):
        self.next_offsets = {}

    def follow(self, run, should_stop=lambda: False):
        records = [
            record
            for record in self.replayed
            if record.at == (run.topic, run.partition) and run.first <= record.offset <= run.last
        ]
        for record in records:
            self.next_offsets.setdefault(record.topic, {})[record.partition] = record.offset + 1
        return records


def state_of(*uploads, learner=None, policy=None, **options):
    """Return a training state that knows *uploads*."""
    policy = policy or WindowPolicy()
    learner = learner or RecordingLearner()
    state = TrainingState(
        learner,
        Windows(policy, max_users=1_000),
        Popularity(learner.vocabulary, half_life_ms=24 * HOUR_MS, live_half_life_ms=3 * HOUR_MS),
        CompletionRule(),
        **options,
    )
    for upload in uploads:
        state.upload(upload)
    return state


def received(topic, event, *, offset=0, key=None, value=None, headers=(), num_partitions=0):
    """Return *event* as a record of *topic*, or the bytes given instead."""
    name = getattr(event, topic.key_field).encode() if event is not None else None
    return Received(
        topic=topic.name,
        partition=0,
        offset=offset,
        key=name if key is None else key,
        value=encode(event) if event is not None else value,
        ingested_at_ms=T0 + 10**9,
        headers=headers,
        num_partitions=num_partitions,
    )


def announcement(generation, state=BundleState.OFFERED, metrics=None):
    """Return the word that the bundle of *generation* has reached *state*."""
    return BundleAnnouncement(
        bundle_id=f"b{generation}",
        generation=generation,
        state=state,
        url=f"file:///somewhere/b{generation}",
        manifest_sha256="0" * 64,
        announced_at_ms=T0,
        metrics=metrics or {},
    )


class RecordingRanker:
    """Keeps what it is given to learn, and whom it is told to forget."""

    def __init__(self):
        self.learned = []
        self.forgotten = []

    def learn(self, examples):
        self.learned += examples

    def upload(self, upload):
        """Note nothing of a video."""

    def forget(self, user_id):
        """Note who is forgotten."""
        self.forgotten.append(user_id)

    def metrics(self):
        """Return no measures."""
        return {}

    def bundle_files(self, rows):
        """Return no files."""
        return {}

    def state(self):
        """Return nothing to keep."""
        return {}

    def load_state(self, arrays):
        """Restore nothing."""
