"""Run an arm on KuaiRand from 25 to 30 April: score each batch, then learn from it.

The protocol is that of ``nextwatch evaluate retrieval``, on its tune window; vectors are scored
in torch at once, so that an arm takes minutes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time

import numpy as np
import torch
from jaxtyping import Float32, Float64

from benchmarks.ablations.arms import Arm
from models.towers.presets import RETRIEVERS
from models.training import cooccurrence
from models.training.config import TowerConfig
from models.training.hierarchical_softmax import bands
from models.training.item2vec import Item2VecConfig, Vectors, item2vec
from models.training.replay import EncodedExamples
from models.training.sequence_training import Recipe
from nextwatch.evaluate import ranks
from nextwatch.evaluate.contender import Case, TrainingData
from nextwatch.evaluate.learned import Learned
from nextwatch.evaluate.logs import kuairand
from nextwatch.evaluate.logs.trial import LoggedHistory, TrialLog
from nextwatch.evaluate.prequential import LIVE, Entrant, Tell, replay
from trainer.learn.learner import Learner

# Shape legend: B = cases, N = videos, Q = all cases, M = measures.


@dataclass(frozen=True, slots=True)
class AblationOutcome:
    """The result of an arm: what each case adds to each of `ranks.MEASURES`, and its user."""

    gain_QM: Float64[np.ndarray, "Q M"]
    user_ids: Sequence[str]
    cpu_s: float
    effort: str


class Streaming(Learned):
    """The trainer's learner in a trial, with the start and the order that an arm asks for."""

    def __init__(
        self, arm: Arm, config: TowerConfig, *, seed: int, recipe: Recipe | None = None
    ) -> None:
        learner = (ByProbability if arm.is_ranked_by_probability else Learner)(config, seed=seed)
        super().__init__(learner, recipe=recipe if arm.start is None else None)
        self._arm, self._seed = arm, seed

    def prepare(self, training: TrainingData) -> None:
        """Make the videos known, in the order of the columns, and start."""
        super().prepare(training)
        dim, num_videos = self.learner.config.dim, len(training.uploads)
        histories = training.histories
        vectors = started(self._arm.start, histories, num_videos, dim=dim, seed=self._seed)
        if vectors is not None:
            self.learner.start_from(vectors)

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return what the learner would serve if a generation lasted no time."""
        examples = [self.example(case, case.label) for case in cases]
        return self.learner.similarity(self.learner.encode(examples))


class ByProbability(Learner):
    """A learner with a hierarchical softmax that scores by log-probabilities."""

    def similarity(self, encoded: EncodedExamples) -> Float32[np.ndarray, "B N"]:
        """Return log P(video | user)."""
        assert self._model.bands is not None, "only the hierarchical softmax has bands"
        input_ND, output_ND = self._all_vectors()
        user_BD = torch.from_numpy(self._model.user_vectors(encoded.users, input_ND))
        count_N = self._frequency.count_N[1 : len(self.video_ids) + 1]
        num_bands = min(self.config.num_bands, math.isqrt(len(count_N)))
        band_N = torch.from_numpy(bands(count_N, num_bands=num_bands))
        with torch.no_grad():
            logits_BN = user_BD @ torch.from_numpy(output_ND[1:]).T / self.config.temperature
            log_p_BN = self._model.bands.log_probabilities(user_BD, logits_BN, band_N)
        score_BN: np.ndarray = log_p_BN.numpy()
        return score_BN


def started(
    start: str | None, histories: Sequence[LoggedHistory], num_videos: int, *, dim: int, seed: int
) -> Vectors | None:
    """Return vectors learned on what users completed before, or None to *start* from nothing."""
    rows = [np.array(history.completed, np.int64) + 1 for history in histories]
    if start == "item2vec":
        sequences = [one.tolist() for one in rows]
        return item2vec(sequences, Item2VecConfig(dim=dim), num_videos=num_videos, seed=seed)
    if start == "cooccurrence":
        first_ND = cooccurrence.embeddings(rows, num_videos, dim, seed=seed)
        video_ND = np.concatenate([np.zeros((1, dim), np.float32), first_ND])
        return Vectors(video_ND, np.zeros((1, dim), np.float32))
    return None


def read(directory: Path, *, most: int | None) -> TrialLog:
    """Return the tune window of the log in *directory*, or its first *most* exposures."""
    log = kuairand.read(directory, window="tune")
    return replace(
        log,
        user_id=log.user_id[:most],
        column=log.column[:most],
        time_ms=log.time_ms[:most],
        watch_ms=log.watch_ms[:most],
        duration_ms=log.duration_ms[:most],
        surface=log.surface[:most],
        is_completed=log.is_completed[:most],
        is_tested=log.is_tested[:most],
        period=log.period[:most],
    )


def run(log: TrialLog, arm: Arm, *, seed: int, num_epochs: int, tell: Tell) -> AblationOutcome:
    """Take *log* through *arm*, after *num_epochs* over the histories from before it.

    An arm that says what it starts from does not learn the histories otherwise.
    """
    started_s = process_time()
    config = arm.of(RETRIEVERS[arm.model])
    recipe = Recipe(num_epochs=num_epochs) if num_epochs else None
    entrant = Entrant(arm.name, Streaming(arm, config, seed=seed, recipe=recipe))
    told = f"{arm.name}, seed {seed}"
    tested = replay(
        log, [entrant], policy=arm.policy, tell=lambda what, done: tell(f"{told}: {what}", done)
    )
    found = ranks.joined(entrant.ranks[LIVE], len(log.uploads))
    cpu_s = process_time() - started_s
    return AblationOutcome(ranks.gains(found), tested.user_ids, cpu_s, f"{len(log)} exposures")
