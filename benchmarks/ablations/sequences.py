"""Run an arm on MovieLens-1M: train on sequences, then rank each user's second last film.

The last film of a user, the test of the published figures, is cut off: it is not seen, neither
to learn from nor to compare arms by. Every arm has the same time: as many epochs as fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time

import numpy as np
from jaxtyping import Float32

from benchmarks.ablations.arms import Arm
from benchmarks.ablations.streaming import AblationOutcome, started
from contract.wire.events import VideoUpload
from models.features.features import FeatureEncoder
from models.features.vocabulary import Vocabulary
from models.history.history import Window, WindowPolicy
from models.towers.presets import OF_SEQUENCES
from models.training import sequence_batches, sequence_training
from models.training.two_tower import TwoTowerModel
from nextwatch.evaluate import ranks
from nextwatch.evaluate.contender import Case
from nextwatch.evaluate.logs import ml1m
from nextwatch.evaluate.logs.trial import LoggedHistory
from nextwatch.evaluate.prequential import Tell

# Shape legend: B = cases, N = videos.

_CASES_AT_A_TIME = 256


@dataclass(frozen=True, slots=True)
class SequenceSplit:
    """Sequences without their last two films, and the case of finding the second last."""

    uploads: Sequence[VideoUpload]
    histories: Sequence[LoggedHistory]
    cases: Sequence[Case]


class Sequences:
    """A model that learns from whole sequences, as an arm says."""

    def __init__(self, arm: Arm, split: SequenceSplit, *, seed: int) -> None:
        self._arm, self._seed = arm, seed
        preset = OF_SEQUENCES[arm.model]
        config = self._config = arm.of(preset.config)
        self._recipe = replace(
            preset.recipe,
            slice_length=arm.max_watches,
            max_slices=arm.max_slices,
            is_warm_started=preset.recipe.is_warm_started and arm.start is None,
        )
        self._features = FeatureEncoder(
            content_buckets=config.content_buckets,
            context_buckets=config.context_buckets,
            completion=config.completion,
        )
        self._vocabulary = Vocabulary(self._features)
        for upload in split.uploads:
            self._vocabulary.put(upload)
        self._histories = [
            sequence_batches.WatchSequence(
                np.array(one.columns, np.int64) + 1, np.array(one.is_completed, bool)
            )
            for one in split.histories
        ]
        self._vectors = started(
            arm.start, split.histories, len(split.uploads), dim=config.dim, seed=seed
        )
        self._model = self._fresh()

    def seconds_per_epoch(self) -> float:
        """Return the CPU time of an epoch, by one that is thrown away."""
        started_s = process_time()
        self._train(self._fresh(), num_epochs=1)
        return process_time() - started_s

    def train(self, num_epochs: int) -> None:
        """Learn from all sequences."""
        self._train(self._model, num_epochs)

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return the inner products of all videos."""
        windows = [case.window for case in cases]
        newest_ms = [window.newest_ms for window in windows]
        users = self._features.windows(windows, self._vocabulary.live_rows, newest_ms)
        rows = np.arange(1, len(self._vocabulary) + 1)
        input_ND, output_ND = self._model.item_vectors(self._vocabulary.content(), rows)
        row_0 = np.zeros((1, input_ND.shape[1]), np.float32)
        score_BN: np.ndarray = (
            self._model.user_vectors(users, np.concatenate([row_0, input_ND])) @ output_ND.T
        )
        return score_BN

    def _fresh(self) -> TwoTowerModel:
        model = TwoTowerModel(self._config, seed=self._seed)
        model.reserve(len(self._vocabulary))
        if self._vectors is not None:
            model.start_from(self._vectors)
        return model

    def _train(self, model: TwoTowerModel, num_epochs: int) -> None:
        recipe = replace(self._recipe, num_epochs=num_epochs)
        sequence_training.train(model, self._vocabulary, self._histories, recipe, seed=self._seed)


def read(directory: Path) -> SequenceSplit:
    """Return the split of the sequences in *directory*."""
    halves = ml1m.read(directory, policy=WindowPolicy())
    histories = [_history(case) for case in halves.tests]
    return SequenceSplit(halves.uploads, histories, [_second_last(case) for case in halves.tests])


def run(
    split: SequenceSplit, arm: Arm, *, seed: int, minutes: float, tell: Tell
) -> AblationOutcome:
    """Train *arm* for so many minutes of CPU and let it find the second last films."""
    sequences = Sequences(arm, split, seed=seed)
    tell(f"timing {arm.name}", 0.0)
    num_epochs = max(1, int(minutes * 60 / sequences.seconds_per_epoch()))
    tell(f"training {arm.name}, {num_epochs} epochs", 0.1)
    started_s = process_time()
    sequences.train(num_epochs)
    cpu_s = process_time() - started_s
    cases = [_bounded(case, arm.max_watches) for case in split.cases]
    found = []
    for start in range(0, len(cases), _CASES_AT_A_TIME):
        batch = cases[start : start + _CASES_AT_A_TIME]
        labels, exposed = [case.label for case in batch], [case.exposed for case in batch]
        found.append(ranks.rank(sequences.score(batch), labels, exposed))
    gain_QM = ranks.gains(ranks.joined(found, len(split.uploads)))
    return AblationOutcome(gain_QM, [case.user_id for case in cases], cpu_s, f"{num_epochs} epochs")


def _history(case: Case) -> LoggedHistory:
    columns = list(case.completed[:-1])
    return LoggedHistory(
        user_id=case.user_id,
        columns=columns,
        is_completed=[True] * len(columns),
        completed=columns,
        first_ms=ml1m.OPENED_MS,
        last_ms=ml1m.OPENED_MS + ml1m.GAP_MS * (len(columns) - 1),
    )


def _second_last(case: Case) -> Case:
    before = list(case.completed[:-1])
    window = Window(case.window.watches[:-1])
    time_ms = case.event_time_ms - ml1m.GAP_MS
    return Case(case.user_id, window, time_ms, case.completed[-1], before, before)


def _bounded(case: Case, max_watches: int) -> Case:
    return case._replace(window=Window(case.window.watches[-max_watches:]))
