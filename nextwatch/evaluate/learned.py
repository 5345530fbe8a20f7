"""A learner of the trainer in a trial, scored by what it would serve (torch; the `train` extra).

It learns as in the trainer. It is scored as in streams: the user vectors come from the exported
ONNX tower of the last bundle, the item vectors from the store of that generation. A bundle is
made every `GENERATION_MS` of the log's time and no sooner than somebody is scored; in between,
the videos that learning touched get new vectors of the same generation, batch by batch.
"""

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import process_time

import numpy as np
from jaxtyping import Float32

from contract.events import VideoUpload
from models import bundle as bundles
from models.encoder import UserEncoder
from models.examples import Example
from models.items import RANKING_FEATURE_NAMES, ItemSnapshot, ItemStore
from models.retriever import RetrieverConfig
from models.sequence_training import Recipe
from nextwatch.evaluate.contender import Case, Exposure
from nextwatch.evaluate.trial import History
from trainer.histories import PastWatches
from trainer.learner import Learner
from trainer.popularity import Viewing

# Shape legend: B = cases, N = videos, F = ranking features.

GENERATION_MS = 3_600_000


class Towers:
    """One generation as streams holds it: the exported user tower and the vectors of all videos."""

    def __init__(self, bundle: bundles.Bundle) -> None:
        self._encoder = UserEncoder(bundle)
        self._items = ItemStore(bundle.manifest.input_dim, bundle.manifest.output_dim)
        self._items.put_many(bundle.snapshot)

    def put(self, snapshot: ItemSnapshot) -> None:
        """Take in new vectors of this generation."""
        self._items.put_many(snapshot)

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return the inner products of the users with all videos; row n + 1 is column n."""
        windows = [case.window for case in cases]
        newest_ms = [window.newest_ms for window in windows]
        user_BD = self._encoder.encode(windows, self._items, newest_ms)
        score_BN: np.ndarray = user_BD @ self._items.outputs_ND[1:].T
        return score_BN

    def copy(self) -> "Towers":
        """Return these towers with an item store of their own."""
        copied = copy.copy(self)
        copied._items = copy.deepcopy(self._items)  # noqa: SLF001 - of this class
        return copied


class FrozenTowers:
    """A learned contender that learns no more."""

    def __init__(self, towers: Towers) -> None:
        self._towers = towers

    def prepare(
        self,
        uploads: Sequence[VideoUpload],
        histories: Sequence[History],
        validation: Sequence[Case],
    ) -> None:
        """Stay as it is."""

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return what the towers say."""
        return self._towers.score(cases)

    def observe(self, exposures: Sequence[Exposure]) -> None:
        """Learn nothing."""

    def frozen(self) -> "FrozenTowers":
        """Return itself, since it never changes."""
        return self


class Learned:
    """A `Learner` that takes part in a trial."""

    def __init__(
        self,
        config: RetrieverConfig,
        *,
        seed: int,
        recipe: Recipe | None = None,
        generation_ms: int = GENERATION_MS,
    ) -> None:
        self.learner = Learner(config, seed=seed)
        self._recipe = recipe
        self._generation_ms = generation_ms
        self._generation = -1
        self._towers: Towers | None = None
        self.num_generations = 0
        self.export_s = 0.0

    def prepare(
        self,
        uploads: Sequence[VideoUpload],
        histories: Sequence[History],
        validation: Sequence[Case],  # noqa: ARG002 - a recipe's learning rate ends at nothing
    ) -> None:
        """Make the videos known, in the order of the columns, and learn the histories."""
        for upload in uploads:
            self.learner.upload(upload)
        video_ids = self.learner.video_ids
        assert len(video_ids) == len(uploads), "every upload has an id of its own"
        if histories and self._recipe is not None:
            past = [
                PastWatches([video_ids[column] for column in one.columns], one.is_completed)
                for one in histories
            ]
            span_ms = max(one.last_ms for one in histories) - min(one.first_ms for one in histories)
            self.learner.study_histories(past, self._recipe, span_ms=max(span_ms, 1))

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return the inner products of the served vectors, of a new generation when it is time."""
        generation = cases[0].event_time_ms // self._generation_ms
        if self._towers is None or generation != self._generation:
            self._start(generation)
        assert self._towers is not None
        return self._towers.score(cases)

    def observe(self, exposures: Sequence[Exposure]) -> None:
        """Learn from completed first exposures, count what was played, renew what this touched."""
        video_ids = self.learner.video_ids
        examples = [
            self.example(one, one.column) for one in exposures if one.is_completed and one.is_first
        ]
        if examples:
            self.learner.learn(examples)
        self.learner.count(
            [
                Viewing(video_ids[one.column], one.event_time_ms, one.watch_ms, one.is_completed)
                for one in exposures
                if one.watch_ms > 0
            ]
        )
        self._renew()

    def frozen(self) -> FrozenTowers:
        """Return a copy with the towers and the vectors of this moment."""
        self._start(self._generation)
        assert self._towers is not None
        return FrozenTowers(self._towers.copy())

    def example(self, one: Case | Exposure, column: int) -> Example:
        """Return what the learner is told of a watch of *column*."""
        video_id = self.learner.video_ids[column]
        return Example(one.user_id, one.window, video_id, one.event_time_ms)

    def _start(self, generation: int) -> None:
        """Start a generation: a bundle written, read and loaded, as from trainer to streams."""
        started_s = process_time()
        learner, self._generation = self.learner, generation
        learner.freeze(0)
        learner.drain_touched()
        card = learner.card(bundle_id="trial", generation=0, offsets={}, metrics={})
        features_NF = np.zeros((len(learner.video_ids), len(RANKING_FEATURE_NAMES)))
        with tempfile.TemporaryDirectory() as root:
            bundles.write(root, card, learner.bundle_files(), learner.snapshot(features_NF))
            self._towers = Towers(bundles.load(str(Path(root) / card.bundle_id)))
        self.num_generations += 1
        self.export_s += process_time() - started_s

    def _renew(self) -> None:
        if self._towers is None:
            return
        video_ids = sorted(self.learner.drain_touched())
        if not video_ids:
            return
        input_ND, output_ND = self.learner.vectors(video_ids, generation=0)
        features_NF = np.zeros((len(video_ids), len(RANKING_FEATURE_NAMES)))
        self._towers.put(ItemSnapshot(video_ids, input_ND, output_ND, features_NF))
