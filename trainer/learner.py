"""The learner: one model and everything it has learned, with no idea of Kafka or of files.

The order of operations on a batch of examples is the trainer's: `similarity` first, then
`learn`. Everything that a restart needs is in `state`, and learning goes on from there bit
for bit.

Two speeds: `freeze` keeps the dense half of a generation as it was handed over, `vectors` puts
the id embeddings of this moment on top of it (models/frozen.py).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy
from jaxtyping import Bool, Float, Float32

from contract.events import VideoUpload
from models import encoder, export
from models.bundle import Card
from models.catalogue import Catalogue
from models.examples import Example
from models.features import FeatureEncoder
from models.frequency import LabelFrequency
from models.frozen import FrozenGenerations
from models.items import ItemSnapshot
from models.losses import log_inclusion
from models.ranking import RankerParams
from models.replay import ReplayBuffer, encode_examples
from models.retrieval import Candidates, RetrievalModel
from models.retriever import RetrieverConfig

# Shape legend: B = examples, N = videos of the catalogue (those taken down included),
# C = candidates of a step, D = width of a vector, F = ranking features.


def cap_per_user(examples: Sequence[Example], most: int) -> list[Example]:
    """Return *examples* in their order with at most the *most* newest of each user.

    A fixed number of examples per user keeps few heavy watchers from owning the loss
    (Covington et al. 2016, section 3.4).

    Raises:
        ValueError: *most* is below 1.
    """
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    counts: dict[str, int] = {}
    kept: list[Example] = []
    for example in reversed(examples):
        counts[example.user_id] = counts.get(example.user_id, 0) + 1
        if counts[example.user_id] <= most:
            kept.append(example)
    return kept[::-1]


class Learner:
    """A retrieval model that learns example by example."""

    def __init__(self, config: RetrieverConfig, *, seed: int) -> None:
        self.config = config
        self.features = FeatureEncoder(
            content_buckets=config.content_buckets,
            context_buckets=config.context_buckets,
            completion=config.completion,
        )
        self._model = RetrievalModel(config, seed=seed)
        self._catalogue = Catalogue(self.features)
        self._replay = ReplayBuffer(config.replay_size)
        self._draw = np.random.Generator(np.random.PCG64(seed))
        self._frequency = LabelFrequency(half_life_ms=config.frequency_half_life_ms)
        self._frozen = FrozenGenerations(config)
        self._touched: set[str] = set()
        self._vectors: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def video_ids(self) -> list[str]:
        """Every video ever uploaded, in the order of the first upload; the order never changes."""
        return self._catalogue.video_ids

    @property
    def is_live_N(self) -> Bool[np.ndarray, "N"]:
        """Which of *video_ids* may be recommended."""
        return self._catalogue.is_live_N

    @property
    def ranker_params(self) -> RankerParams:
        """How the served order is made of this model's similarities."""
        return self.config.ranker

    def upload(self, upload: VideoUpload) -> None:
        """Make a video known by its content, or replace what is known of it."""
        row = self._catalogue.put(upload)
        self._model.reserve(row)
        self._frequency.reserve(row)
        self._vectors = None

    def remove(self, video_id: str) -> None:
        """Take a video down: no label and no candidate from now on, and left out of new windows."""
        row = self._catalogue.row(video_id)
        if row:
            self._catalogue.remove(video_id)
            self._replay.forget_video(row)
            self._touched.discard(video_id)
            self._vectors = None

    def forget(self, user_id: str) -> None:
        """Erase the examples of a user that are kept for replay."""
        self._replay.forget_user(user_id)

    def similarity(self, examples: Sequence[Example]) -> Float32[np.ndarray, "B N"]:
        """Return the cosine of each user with each of *video_ids*, before learning from any.

        Videos taken down have a similarity like all others: mask them by `is_live_N`.
        """
        input_ND, output_ND = self._all_vectors()
        users = encode_examples(examples, self.features, self._catalogue.rows)
        user_BD = self._model.user_vectors(users, input_ND)
        similarity_BN: np.ndarray = user_BD @ output_ND[1:].T
        return similarity_BN

    def learn(self, examples: Sequence[Example]) -> float:
        """Learn from *examples*, with some older ones beside, and return the mean loss.

        Examples of videos that are not in the catalogue are left out; without any other the
        loss is 0 and nothing is learned. A loss that is not finite is returned as it is, and
        the step that had it has changed nothing.
        """
        known = [example for example in examples if self._catalogue.row(example.video_id)]
        if not known:
            return 0.0
        self._frequency.move_to(max(example.event_time_ms for example in known))
        slots = self._replay.add(known, self.features, self._catalogue.rows)
        losses = []
        for _ in range(-(-len(known) // self.config.examples_per_step)):
            older = self._draw.integers(len(self._replay), size=self.config.num_replayed)
            batch = self._replay.take(
                np.concatenate([slots, older]), self.features, now_ms=self._frequency.newest_ms
            )
            candidates = self._candidates(batch.label_rows_B)
            losses.append(self._model.step(batch, candidates, self._catalogue))
        self._frequency.add(self._catalogue.rows([example.video_id for example in known]))
        for example in known:
            self._touched.update(example.window.video_ids, (example.video_id,))
        self._vectors = None
        return float(np.mean(losses))

    def freeze(self, generation: int) -> None:
        """Keep the dense half as it is now under *generation*; the oldest beyond three goes."""
        self._frozen.freeze(generation, self._model)

    def vectors(
        self, video_ids: Sequence[str], *, generation: int
    ) -> tuple[Float32[np.ndarray, "n D"], Float32[np.ndarray, "n D"]]:
        """Return (input, output) vectors in the space of *generation*, with today's id embeddings.

        Raises:
            ValueError: a video is not in the catalogue, or the generation is not kept.
        """
        rows = self._catalogue.rows(video_ids)
        if not rows.all():
            raise ValueError(f"{int((rows == 0).sum())} of {len(rows)} videos are not known")
        content = self._catalogue.content(rows)
        return self._frozen.vectors(generation, self._model, content, rows)

    def drain_touched(self) -> set[str]:
        """Return the videos that learning was about since the last call, live ones only."""
        touched = {video_id for video_id in self._touched if self._catalogue.row(video_id)}
        self._touched = set()
        return touched

    def bundle_files(self) -> dict[str, bytes]:
        """Return what `models.bundle.write` takes as files: towers, tables and golden outputs.

        Raises:
            BundleError: the exported towers do not compute what torch computes.
        """
        tables = self._model.tables
        arrays = {"content_HD": tables.content_HD, "context_KE": tables.context_KE}
        files = export.export(self._model.user_tower, self._model.item_tower, self.config)
        return {**files, encoder.TABLES: safetensors.numpy.save(arrays)}

    def card(
        self,
        *,
        bundle_id: str,
        generation: int,
        offsets: Mapping[str, Mapping[str, int]],
        metrics: Mapping[str, float],
    ) -> Card:
        """Return what a bundle of this moment says of itself."""
        config = self.config
        return Card(
            bundle_id=bundle_id,
            generation=generation,
            model=config.model,
            input_dim=config.dim,
            output_dim=config.dim,
            content_buckets=config.content_buckets,
            context_buckets=config.context_buckets,
            min_watch_ms=config.completion.min_watch_ms,
            ranker=self.ranker_params,
            offsets={topic: dict(of_topic) for topic, of_topic in offsets.items()},
            metrics=dict(metrics),
        )

    def snapshot(self, features_NF: Float[np.ndarray, "N F"]) -> ItemSnapshot:
        """Return the vectors of every live video, with its ranking features.

        *features_NF* has a row for each of *video_ids* and the columns of
        `models.items.RANKING_FEATURE_NAMES`.
        """
        input_ND, output_ND = self._all_vectors()
        live = np.flatnonzero(self.is_live_N)
        return ItemSnapshot(
            video_ids=[self.video_ids[place] for place in live.tolist()],
            input_ND=input_ND[live + 1],
            output_ND=output_ND[live + 1],
            features=np.asarray(features_NF, np.float64)[live],
        )

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return everything a restart needs: arrays, and what JSON can say. Copies, all of it."""
        arrays = {f"model.{name}": array for name, array in self._model.state().items()}
        arrays |= {f"replay.{name}": array for name, array in self._replay.state().items()}
        arrays |= {f"frozen.{name}": array for name, array in self._frozen.state().items()}
        arrays["catalogue"] = np.frombuffer(self._catalogue.encoded(), np.uint8)
        arrays["label_count_N"] = self._frequency.count_N
        meta = {
            "newest_ms": self._frequency.newest_ms,
            "num_added": self._replay.num_added,
            "touched": sorted(self._touched),
            "generations": self._frozen.generations,
            # as text: its numbers have 128 bits, more than most readers of JSON take
            "draw": json.dumps(self._draw.bit_generator.state),
        }
        return {name: array.copy() for name, array in arrays.items()}, meta

    def load_state(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Become the learner that `state` was taken of; the configuration has to be the same.

        Raises:
            ValueError: an array is missing or of another shape; the learner is as it was.
        """
        missing = {"catalogue", "label_count_N"} - arrays.keys()
        if missing:
            raise ValueError(f"the state of a learner has no {sorted(missing)}")
        catalogue = Catalogue.decoded(self.features, arrays["catalogue"].tobytes())
        model = RetrievalModel(self.config, seed=0)
        model.load_state(_under("model.", arrays))
        replay = ReplayBuffer(self.config.replay_size)
        replay.load_state(_under("replay.", arrays), num_added=meta["num_added"])
        frozen = FrozenGenerations(self.config)
        frozen.load_state(_under("frozen.", arrays), meta["generations"])
        self._catalogue, self._model, self._replay, self._frozen = catalogue, model, replay, frozen
        self._frequency.count_N = arrays["label_count_N"].copy()
        self._frequency.newest_ms = meta["newest_ms"]
        self._touched = set(meta["touched"])
        self._draw.bit_generator.state = json.loads(meta["draw"])
        self._vectors = None

    def _all_vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors of every row, row 0 included; kept until something is learned."""
        if self._vectors is None:
            num_videos, dim = len(self._catalogue), self.config.dim
            input_ND, output_ND = (np.zeros((num_videos + 1, dim), np.float32) for _ in range(2))
            if num_videos:
                rows = np.arange(1, num_videos + 1)
                vectors = self._model.item_vectors(self._catalogue.content(), rows)
                input_ND[1:], output_ND[1:] = vectors
            self._vectors = input_ND, output_ND
        return self._vectors

    def _candidates(self, label_rows_B: np.ndarray) -> Candidates:
        """Return a uniform draw of the catalogue with the labels of the batch, each video once."""
        live = np.flatnonzero(self.is_live_N)
        drawn = live
        if len(live) > self.config.num_negatives:
            drawn = self._draw.choice(live, self.config.num_negatives, replace=False)
        rows_C = np.union1d(drawn + 1, label_rows_B)
        log_q_C = log_inclusion(
            self._frequency.shares(rows_C),
            num_uniform=len(drawn),
            num_videos=len(live),
            num_labels=len(label_rows_B),
        )
        popularity_C = self._frequency.counts(rows_C) + self.ranker_params.popularity_prior
        offset_C = self.config.popularity_offset * np.log(popularity_C)
        return Candidates(rows_C, log_q_C.astype(np.float32), offset_C.astype(np.float32))


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
