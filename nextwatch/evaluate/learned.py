"""Evaluate a learner of the trainer by what it would serve (torch; the `train` extra).

It learns as in the trainer. It is scored as in streams: from a bundle, made with every
hour of the log's time, or every day, and no sooner than somebody is scored; in between, the videos
that learning touched get new vectors of the same generation, batch by batch. Histories from
before the log are learned by a recipe; how many epochs is chosen beforehand, and the users set
apart for validation are listened to, epoch by epoch, while nobody learns from them.
"""

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from models.bundle import bundle as bundles
from models.features.examples import Example
from models.features.features import MAX_WATCHES
from models.history.history import HOUR_MS
from models.serving.items import RANKING_FEATURE_NAMES, ItemSnapshot
from models.training.sequence_training import Recipe
from nextwatch.evaluate import ranks, served
from nextwatch.evaluate.contender import Case, Exposure, StaticContender, TrainingData
from nextwatch.evaluate.served import Towers
from trainer.evaluate.popularity import Viewing
from trainer.learn.histories import PastWatches
from trainer.learn.learner import Learner

# Shape legend: B = cases, N = videos, F = ranking features.


class Epoch(NamedTuple):
    """The loss of one epoch, and the validation measures after it, if there are any."""

    number: int
    loss: float
    validation: dict[str, float]


class FrozenTowers(StaticContender):
    """A learned contender that no longer learns."""

    def __init__(self, towers: Towers) -> None:
        self._towers = towers

    def prepare(self, training: TrainingData) -> None:
        """Learn nothing."""

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return the scores of the towers."""
        return self._towers.score(cases)


class Learned:
    """A `Learner` that takes part in a trial; without a *recipe* it learns no histories.

    With *most* it learns from those of so many users, and counts all.
    """

    def __init__(
        self,
        learner: Learner,
        *,
        recipe: Recipe | None = None,
        most: int | None = None,
        generation_ms: int = HOUR_MS,
        has_learning: bool = True,
        backlog: Recipe | None = None,
    ) -> None:
        self.learner = learner
        self._has_learning = has_learning and backlog is None
        self._backlog = backlog
        self._watched: dict[str, list[tuple[int, bool]]] = {}
        self.epochs: list[Epoch] = []
        self.num_generations = 0
        self.export_s = 0.0
        self._recipe = recipe
        self._most = most
        self._generation_ms = generation_ms
        self._generation = -1
        self._towers: Towers | None = None

    def prepare(self, training: TrainingData) -> None:
        """Make the videos known, in the order of the columns, and learn the histories."""
        histories = training.histories
        for upload in training.uploads:
            self.learner.upload(upload)
        video_ids = self.learner.video_ids
        assert len(video_ids) == len(training.uploads), "every upload has an id of its own"
        if histories and self._recipe is not None:
            past = [
                PastWatches(
                    one.user_id, [video_ids[column] for column in one.columns], one.is_completed
                )
                for one in histories
            ]
            span_ms = max(one.last_ms for one in histories) - min(one.first_ms for one in histories)
            self.learner.learn_histories(
                past,
                self._recipe,
                span_ms=max(span_ms, 1),
                most=self._most,
                goes_on=lambda number, loss: self._note(number, loss, training.validation),
            )

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return the scores of the served generation; start a new one when it is due."""
        generation = cases[0].event_time_ms // self._generation_ms
        if self._towers is None or generation != self._generation:
            self._start(generation)
        assert self._towers is not None
        return self._towers.score(cases)

    def similarity(self, exposures: Sequence[Exposure]) -> Float32[np.ndarray, "B"]:
        """Return the inner product of each user with the video that was shown.

        By the learner of this moment, as `trainer.ranking.own_features`: no generation starts.
        """
        encoded = self.learner.encode([self.example(one, one.column) for one in exposures])
        row_B = np.array([one.column + 1 for one in exposures])
        vectors_BD = self.learner.output_vectors(row_B)
        similarity_B: np.ndarray = (self.learner.user_vectors(encoded.users) * vectors_BD).sum(1)
        return similarity_B

    def observe(self, exposures: Sequence[Exposure]) -> None:
        """Learn from completed first exposures, count plays, and update the changed vectors."""
        if self._backlog is not None:
            for one in exposures:
                if one.watch_ms > 0:
                    watched = self._watched.setdefault(one.user_id, [])
                    watched.append((one.column, one.is_completed))
        video_ids = self.learner.video_ids
        examples = [
            self.example(one, one.column) for one in exposures if one.is_completed and one.is_first
        ]
        if examples and self._has_learning:
            self.learner.learn(self.learner.encode(examples))
        self.learner.count(
            [
                Viewing(video_ids[one.column], one.event_time_ms, one.watch_ms, one.is_completed)
                for one in exposures
                if one.watch_ms > 0
            ]
        )
        self._renew()

    def begin_test(self) -> None:
        """Learn the backlog in passes, as the trainer at its first start; then go on live."""
        if self._backlog is None:
            return
        video_ids = self.learner.video_ids
        past = [
            PastWatches(
                user_id, [video_ids[column] for column, _ in those], [done for _, done in those]
            )
            for user_id, all_watched in self._watched.items()
            for those in (all_watched[-MAX_WATCHES:],)
        ]
        self.learner.learn_histories(past, self._backlog, span_ms=1, are_counted=True)
        self._backlog, self._watched, self._has_learning = None, {}, True
        self._towers = None

    def frozen(self) -> FrozenTowers:
        """Return a copy with the towers and the vectors of this moment."""
        self._start(self._generation)
        assert self._towers is not None
        return FrozenTowers(self._towers.copy())

    def counting(self) -> "Learned | None":
        """Return a copy that learns no more and goes on counting; None without live signals."""
        if not self.learner.config.has_live_signals:
            return None
        return Learned(
            copy.deepcopy(self.learner), generation_ms=self._generation_ms, has_learning=False
        )

    def example(self, one: Case | Exposure, column: int) -> Example:
        """Return the learner's example of a watch of *column*."""
        video_id = self.learner.video_ids[column]
        return Example(one.user_id, one.window, video_id, one.event_time_ms)

    def _note(self, number: int, loss: float, validation: Sequence[Case]) -> bool:
        self.epochs.append(Epoch(number, loss, self._measured(validation)))
        return True

    def _measured(self, cases: Sequence[Case]) -> dict[str, float]:
        if not cases:
            return {}
        examples = [self.example(case, case.label) for case in cases]
        score_BN = self.learner.similarity(self.learner.encode(examples))
        found = ranks.rank(score_BN, [case.label for case in cases], [one.exposed for one in cases])
        return ranks.means(ranks.gains(found))

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
            self._towers = served.loaded(bundles.load(str(Path(root) / card.bundle_id)))
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
