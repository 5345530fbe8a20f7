"""Train one model example by example; the caller handles Kafka and files.

The order of operations on a batch of examples is the trainer's: `encode` once, then
`similarity`, then `learn`. Everything that a restart needs is in `state`, and learning goes on from
there bit for bit.

Column *n* of a similarity matrix and row *n* of a feature matrix belong to ``video_ids[n]``, an
order that only ever grows. A video taken down keeps its place and is masked by ``is_live_N``.

Two speeds: `freeze` keeps the dense half of a generation as it was handed over, `vectors` puts
the id embeddings of this moment on top of it (models/training/frozen.py).
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy
from jaxtyping import Bool, Float, Float32, Int64, Integer

from contract.wire.events import VideoUpload
from models.bundle import export
from models.bundle.bundle import Card
from models.features.examples import Example, cap_per_user
from models.features.features import FeatureEncoder, UserBatch
from models.features.growth import FIRST_CAPACITY, grown
from models.features.vocabulary import Vocabulary
from models.parallel.data_parallel import DataParallel
from models.serving import encoder
from models.serving.items import ItemSnapshot
from models.serving.live_signals import RANKER, SCALE, LiveSignals, served_dim, served_items
from models.serving.ranking import RankerParams
from models.training.config import TowerConfig
from models.training.frozen import FrozenGenerations
from models.training.item2vec import Vectors
from models.training.label_frequency import LabelFrequency
from models.training.replay import EncodedExamples, ReplayBuffer, encode_examples
from models.training.sequence_training import Recipe
from models.training.two_tower import TwoTowerModel
from trainer.evaluate.popularity import Viewing
from trainer.learn.candidates import CandidateDraw
from trainer.learn.catalogue_vectors import CHUNK, CatalogueVectors, watched_rows, with_padding
from trainer.learn.histories import GoesOn, PastWatches, always, learn_histories
from trainer.learn.weight_copy import WeightCopy

# Shape legend: B = examples, N = videos of the catalogue (those taken down included),
# D = width of a vector, F = ranking features, P = dense weights, K = live signals.


STEPS_OF_A_BATCH = 4
"""A larger batch is learned in larger steps. A step of 1,024 takes a tenth as long for each example
as one of 16 does: most of what is drawn and watched is the same."""


class Learner:
    """A retrieval model that learns example by example."""

    def __init__(self, config: TowerConfig, *, seed: int) -> None:
        self.config = config
        self.features = FeatureEncoder(
            content_buckets=config.content_buckets,
            context_buckets=config.context_buckets,
            completion=config.completion,
        )
        self._model = TwoTowerModel(config, seed=seed)
        self.vocabulary = Vocabulary(self.features, max_videos=config.max_videos)
        self.vocabulary.when_freed(self._forget_rows)
        self._replay = ReplayBuffer(config.replay_size)
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._candidates = CandidateDraw(config)
        self._frequency = LabelFrequency(half_life_ms=config.frequency_half_life_ms)
        self._signals = LiveSignals()
        self._frozen = FrozenGenerations(config)
        self._is_touched_N = np.zeros(FIRST_CAPACITY, bool)
        self.catalogue_vectors = CatalogueVectors(config)
        self._waiting: list[int] = []
        self._loss = 0.0
        self._vectors: tuple[np.ndarray, np.ndarray] | None = None
        self.num_steps = 0
        """How many optimiser steps this process has taken."""

    @property
    def video_ids(self) -> list[str]:
        """Every video ever uploaded, in the order of the first upload; the order never changes."""
        return self.vocabulary.video_ids

    @property
    def is_live_N(self) -> Bool[np.ndarray, "N"]:
        """Which of *video_ids* may be recommended."""
        return self.vocabulary.is_live_N

    @property
    def model_name(self) -> str:
        """The name that a bundle gives of its model."""
        return self.config.model

    @property
    def ranker_params(self) -> RankerParams:
        """The parameters of the ranker that serves this model."""
        return RANKER if self.config.has_live_signals else self.config.ranker

    def upload(self, upload: VideoUpload) -> bool:
        """Add a video by its content; return whether a known video has changed."""
        is_changed = self.vocabulary.differs(upload)
        row = self.vocabulary.put(upload)
        self._model.reserve(row)
        self._frequency.reserve(row)
        self._signals.reserve(row)
        self.catalogue_vectors.reserve(row)
        self._is_touched_N = grown(self._is_touched_N, row + 1)
        self._vectors = None
        return is_changed

    def remove(self, video_id: str) -> None:
        """Take a video down: no label and no candidate from now on, and left out of new windows."""
        row = self.vocabulary.live_row(video_id)
        if row:
            self.vocabulary.remove(video_id)
            self._replay.forget_video(row)
            self._is_touched_N[row] = False
            self._vectors = None

    def _forget_rows(self, rows: Int64[np.ndarray, "n"]) -> None:
        """Forget the videos that had *rows*, which others will have."""
        self._model.ids.reset(rows)
        self._frequency.forget(rows)
        self._signals.forget(rows)
        self._replay.forget_rows(rows)
        self._is_touched_N[rows] = False
        self.catalogue_vectors.touch(rows)
        self._vectors = None

    def forget(self, user_id: str) -> None:
        """Erase the examples of a user that are kept for replay."""
        self._replay.forget_user(user_id)

    def share_steps(self, parallel: DataParallel) -> None:
        """Compute each step together with the other processes of *parallel*, which learn alike."""
        self._model.parallel = parallel

    def start_from(self, vectors: Vectors) -> None:
        """Start the embeddings from those of item2vec, whose row n is the n-th of *video_ids*."""
        self._model.start_from(vectors)
        self._vectors = None

    def encode(self, examples: Sequence[Example]) -> EncodedExamples:
        """Encode the windows of *examples*, by the catalogue of this moment."""
        return encode_examples(examples, self.features, self.vocabulary.live_rows)

    def similarity(self, encoded: EncodedExamples) -> Float32[np.ndarray, "B N"]:
        """Return the similarity that candidates are found by, of each of *video_ids*.

        Videos taken down have a similarity like all others: mask them by `is_live_N`.
        """
        return self.exact_similarity(encoded)

    def exact_similarity(self, encoded: EncodedExamples) -> Float32[np.ndarray, "B N"]:
        """Return the cosine of each served user vector with each of *video_ids*, learning nothing.

        Videos taken down have a similarity like all others: mask them by `is_live_N`.
        """
        output_ND = self._all_vectors()[1][1:]
        similarity_BN: np.ndarray = self.user_vectors(encoded.users) @ output_ND.T
        return similarity_BN

    def kept_similarity(self, encoded: EncodedExamples, *, most: int) -> Float32[np.ndarray, "B N"]:
        """Return `similarity` by vectors that are kept, of which up to *most* are computed now.

        They are as old as `trainer.learn.catalogue_vectors` says.
        """
        kept = self.catalogue_vectors
        kept.renew(self._model, self.vocabulary, self._signals, most=most)
        return kept.similarity(encoded.users, self._model, self.vocabulary)

    def user_vectors(self, users: UserBatch) -> Float32[np.ndarray, "B E"]:
        """Return the user vectors of *users* as served, learning nothing.

        The vectors of what was watched are computed for it, and not taken from those of the whole
        catalogue where there are some: the same product in another shape differs in its last bits,
        and a trainer that repeats its journal has to compute what it computed.
        """
        rows, users = watched_rows(users)
        input_nD, _ = self._model.item_vectors(self.vocabulary.content(rows), rows)
        return self._model.served_users(self._model.user_vectors(users, with_padding(input_nD)))

    def output_vectors(self, rows: Integer[np.ndarray, "n"]) -> Float32[np.ndarray, "n E"]:
        """Return the served output vectors of *rows*, from 1 on, as they are now."""
        _, output_nD = self._model.item_vectors(self.vocabulary.content(rows), rows)
        return self._served(output_nD, rows)

    def weight_copy(self) -> WeightCopy:
        """Return a copy of all weights of this moment that can be scored with."""
        return WeightCopy(self._model, self.vocabulary)

    def live_signals(self) -> Float32[np.ndarray, "N K"]:
        """Return the signals of *video_ids* as they are now, in the scale of a taste."""
        return SCALE * self._signals.signals(np.arange(1, len(self.vocabulary) + 1))

    def learn_histories(
        self,
        histories: Sequence[PastWatches],
        recipe: Recipe,
        *,
        span_ms: int,
        goes_on: GoesOn = always,
        most: int | None = None,
        are_counted: bool = False,
    ) -> None:
        """Learn what users watched in the *span_ms* before the stream; see `learn_histories`."""
        seed = int(self._rng.integers(2**32))
        parts = self._model, self.vocabulary, self._signals
        learn_histories(
            *parts,
            histories,
            recipe,
            span_ms=span_ms,
            seed=seed,
            goes_on=goes_on,
            most=most,
            are_counted=are_counted,
        )
        self._vectors = None
        self._note_histories(histories)

    def _note_histories(self, histories: Sequence[PastWatches]) -> None:
        """Do what a model besides the towers has to do after *histories* were learned."""

    def count(self, viewings: Sequence[Viewing]) -> None:
        """Count these watches, completed or not: a watched video is known, and may be hot."""
        if not viewings:
            return
        rows = self.vocabulary.live_rows([viewing.video_id for viewing in viewings])
        is_completed = np.array([viewing.is_completed for viewing in viewings], bool)
        self.vocabulary.note_active(rows)
        newest_ms = max(viewing.event_time_ms for viewing in viewings)
        self._model.ids.see(rows[(rows > 0) & ~is_completed])  # the others were labels
        self._model.ids.refresh(rows[rows > 0], now_ms=newest_ms)
        if not self.config.has_live_signals:
            return
        self._signals.count(
            rows,
            np.array([viewing.event_time_ms for viewing in viewings], np.int64),
            is_completed,
            np.array([viewing.is_first for viewing in viewings], bool),
        )
        self._touch(rows)

    def turn_back(self, now_ms: int, *, latest_ms: int) -> bool:
        """Set the clocks to *now_ms* if they stand after *latest_ms*; return whether they did."""
        is_turned = self._signals.turn_back(now_ms, latest_ms=latest_ms)
        self._vectors = None if is_turned else self._vectors
        return self._frequency.turn_back(now_ms, latest_ms=latest_ms) or is_turned

    def learn(self, encoded: EncodedExamples) -> float:
        """Learn from the examples, with some older ones beside, and return the mean loss.

        Until `TowerConfig.examples_per_step` have come they wait, and the loss is the last one.
        Each is learned from in one step, and a batch takes `STEPS_OF_A_BATCH` at most. Examples of
        videos that are not in the catalogue are left out; without any other the loss is 0 and
        nothing is learned. A loss that is not finite is returned as it is, and the step that had
        it has changed nothing.
        """
        known = self._known(encoded)
        if not known:
            return 0.0
        if self.config.max_per_user is not None:
            known = known.at(cap_per_user(known.user_ids, self.config.max_per_user))
        self._frequency.move_to(max(example.event_time_ms for example in known.examples))
        label_rows = self.vocabulary.live_rows(known.video_ids)
        self._model.ids.see(label_rows)
        slots = self._replay.add(known, label_rows, self._signals.signals(label_rows))
        self._waiting += slots.tolist()
        if len(self._waiting) >= self.config.examples_per_step:
            most_steps = len(self._waiting) // self.config.examples_per_step
            steps = np.array_split(self._waiting, min(most_steps, STEPS_OF_A_BATCH))
            self._waiting, self._loss = [], float(np.mean([self._step(new) for new in steps]))
            if not self.config.num_replayed:
                self._replay.clear()
        self._frequency.add(label_rows)
        self._touch(label_rows)
        self._touch(known.users.watch_rows_BT)
        return self._loss

    def _step(self, slots: Integer[np.ndarray, "K"]) -> float:
        """Take one optimiser step on the examples in *slots*, and return its loss."""
        self.num_steps += 1
        older = self._replay.draw(
            self._rng, self.config.num_replayed, max_per_user=self.config.max_per_user
        )
        batch = self._replay.take(
            np.concatenate([slots, older]), self.features, now_ms=self._frequency.newest_ms
        )
        candidates = self._candidates.candidates(
            self._rng, batch.label_rows_B, self.vocabulary, self._frequency, self._signals
        )
        return self._model.step(batch, candidates, self.vocabulary)

    def freeze(self, generation: int, *, in_service: int | None = None) -> None:
        """Keep the dense half of now as *generation*; drop the oldest beyond `NUM_FROZEN`.

        The one *in_service* is not dropped. Before that, embeddings that nobody needs any more, or
        that are not finite, are reset.
        """
        num_reset = self._model.reset_broken()
        expired = self._model.ids.expire(
            now_ms=self._frequency.newest_ms, after_ms=self.config.id_expiry_ms
        )
        if num_reset or len(expired):
            self.catalogue_vectors.touch(np.arange(1, len(self.vocabulary) + 1))
            self._vectors = None
        self._frozen.freeze(generation, self._model, in_service=in_service)

    def drop(self, generation: int) -> None:
        """Forget *generation*."""
        self._frozen.drop(generation)

    def vectors(
        self, video_ids: Sequence[str], *, generation: int
    ) -> tuple[Float32[np.ndarray, "n D"], Float32[np.ndarray, "n D"]]:
        """Return (input, output) vectors in the space of *generation*, with today's id embeddings.

        Raises:
            ValueError: a video is not in the catalogue, or the generation is not kept.
        """
        rows = self.vocabulary.live_rows(video_ids)
        if not rows.all():
            raise ValueError(f"{int((rows == 0).sum())} of {len(rows)} videos are not known")
        content = self.vocabulary.content(rows)
        input_ND, output_ND = self._frozen.vectors(generation, self._model, content, rows)
        return input_ND, self._served(output_ND, rows)

    def drain_touched(self) -> set[str]:
        """Return the videos whose vectors have moved since the last call, live ones only.

        By learning, as labels or as drawn negatives, by being watched, or by not being watched
        while their signals decay.
        """
        return {self.video_ids[row - 1] for row in self.drain_touched_rows().tolist()}

    def drain_touched_rows(self) -> Int64[np.ndarray, "n"]:
        """Return the rows of `drain_touched`, in order."""
        self._touch(self._signals.take_moved(len(self.vocabulary)))
        self._touch(self._model.ids.take_moved())
        touched = np.flatnonzero(self._is_touched_N[1 : len(self.vocabulary) + 1] & self.is_live_N)
        self._is_touched_N[:] = False
        return touched + 1

    def _touch(self, rows: Integer[np.ndarray, "..."]) -> None:
        """Note that the vectors of these rows have moved; row 0 stands for no video."""
        self._is_touched_N[rows] = True
        self._is_touched_N[0] = False
        self.catalogue_vectors.touch(rows)
        self._vectors = None

    def dense_weights(self) -> Float32[np.ndarray, "P"]:
        """Return a copy of the weights of the towers, one after the other."""
        return np.concatenate([p.detach().numpy().ravel() for p in self._model.parameters])

    def bundle_files(self) -> dict[str, bytes]:
        """Return the files of a bundle: towers, tables and golden outputs.

        Raises:
            BundleError: the exported towers do not compute what torch computes.
        """
        tables = self._model.tables
        arrays = {"content_HD": tables.content_HD, "context_KE": tables.context_KE}
        model = self._model
        files = export.export(model.user_tower, model.item_tower, self.config, model.head)
        return {**files, encoder.TABLES: safetensors.numpy.save(arrays)}

    def card(
        self,
        *,
        bundle_id: str,
        generation: int,
        offsets: Mapping[str, Mapping[str, int]],
        metrics: Mapping[str, float],
    ) -> Card:
        """Return the manifest, without the files, of a bundle of this moment."""
        config = self.config
        return Card(
            bundle_id=bundle_id,
            generation=generation,
            model=self.model_name,
            input_dim=config.dim,
            output_dim=self._output_dim,
            content_buckets=config.content_buckets,
            context_buckets=config.context_buckets,
            min_watch_ms=config.completion.min_watch_ms,
            max_skip_ms=config.completion.max_skip_ms,
            ranker=self.ranker_params,
            offsets={topic: dict(of_topic) for topic, of_topic in offsets.items()},
            metrics=dict(metrics),
        )

    def snapshot(self, features_NF: Float[np.ndarray, "N F"]) -> ItemSnapshot:
        """Return the vectors of every live video, with its ranking features.

        *features_NF* has a row for each of *video_ids* and the columns of
        `models.serving.items.RANKING_FEATURE_NAMES`.
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
        """Return copies of everything a restart needs: arrays, and values for JSON."""
        arrays = {f"model.{name}": array for name, array in self._model.state().items()}
        arrays |= {f"replay.{name}": array for name, array in self._replay.state().items()}
        arrays |= {f"frozen.{name}": array for name, array in self._frozen.state().items()}
        arrays |= {f"signals.{name}": array for name, array in self._signals.state().items()}
        arrays["catalogue"] = np.frombuffer(self.vocabulary.encoded(), np.uint8)
        arrays["label_count_N"], times = self._frequency.state()
        meta = times | {
            "num_added": self._replay.num_added,
            "touched": [
                self.video_ids[row - 1] for row in np.flatnonzero(self._is_touched_N).tolist()
            ],
            "waiting": list(self._waiting),
            "loss": self._loss if math.isfinite(self._loss) else 0.0,
            "generations": self._frozen.generations,
            # as text: its numbers have 128 bits, more than most readers of JSON take
            "draw": json.dumps(self._rng.bit_generator.state),
        }
        return {name: array.copy() for name, array in arrays.items()}, meta

    def load_state(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Restore what `state` returned; the configuration has to be the same.

        Raises:
            ValueError: an array is missing or of another shape; the learner is unchanged.
        """
        missing = {"catalogue", "label_count_N"} - arrays.keys()
        if missing:
            raise ValueError(f"the state of a learner has no {sorted(missing)}")
        model = TwoTowerModel(self.config, seed=0)
        model.load_state(_under("model.", arrays))
        model.parallel = self._model.parallel
        replay = ReplayBuffer(self.config.replay_size)
        replay.load_state(_under("replay.", arrays), num_added=meta["num_added"])
        frozen = FrozenGenerations(self.config)
        frozen.load_state(_under("frozen.", arrays), meta["generations"])
        signals = LiveSignals()
        signals.load_state(_under("signals.", arrays))
        self.vocabulary.load(arrays["catalogue"].tobytes())
        self._model, self._replay, self._frozen, self._signals = model, replay, frozen, signals
        self._frequency.load_state(arrays["label_count_N"], meta)
        self.catalogue_vectors = CatalogueVectors(self.config)
        self.catalogue_vectors.reserve(len(self.vocabulary))
        self._is_touched_N = np.zeros(len(self.vocabulary) + 1, bool)
        self._is_touched_N[self.vocabulary.rows(meta["touched"])] = True
        self._waiting, self._loss = list(meta["waiting"]), meta["loss"]
        self._rng.bit_generator.state = json.loads(meta["draw"])
        self._vectors = None

    def _known(self, encoded: EncodedExamples) -> EncodedExamples:
        """Return the examples whose videos may be recommended."""
        rows = self.vocabulary.live_rows(encoded.video_ids)
        return encoded.at(np.flatnonzero(rows).tolist())

    def _all_vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors of every row, row 0 included; kept until something is learned."""
        if self._vectors is None:
            num_videos = len(self.vocabulary)
            input_ND, output_ND = (
                np.zeros((num_videos + 1, dim), np.float32)
                for dim in (self.config.dim, self._output_dim)
            )
            for start in range(1, num_videos + 1, CHUNK):
                rows = np.arange(start, min(start + CHUNK, num_videos + 1))
                vectors = self._model.item_vectors(self.vocabulary.content(rows), rows)
                input_ND[rows], output_ND[rows] = vectors[0], self._served(vectors[1], rows)
            self._vectors = input_ND, output_ND
        return self._vectors

    @property
    def _output_dim(self) -> int:
        dim = self.config.dim
        return served_dim(dim) if self.config.has_live_signals else dim

    def _served(self, output_ND: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return output vectors with the live signals of this moment beside the taste."""
        if not self.config.has_live_signals:
            return output_ND
        return served_items(output_ND, self._signals.signals(rows))


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
