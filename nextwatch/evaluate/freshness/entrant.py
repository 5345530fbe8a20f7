"""Score every case with weights, counters and user vectors of several ages (torch).

One model learns, in batches of two seconds of the log. Beside it, for each interval, stand a copy
of its weights and one of its counters, both taken when the first case after the next multiple of
that interval is scored. A case is scored with each of these weights, with the counters of their
moment or those of now, and with the user's window of now, of the last full hour and of the last
full day. So all rows of a table come from one run and from the same cases.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from time import process_time
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from models.features.examples import Example
from models.features.features import UserBatch
from models.history.history import DAY_MS, HOUR_MS, Window
from nextwatch.evaluate import ranks
from nextwatch.evaluate.contender import Case, Exposure, TrainingData
from nextwatch.evaluate.learned import Learned
from nextwatch.evaluate.prequential import EvaluationPace
from nextwatch.evaluate.ranks import Ranks
from trainer.learn.learner import Learner
from trainer.learn.weight_copy import WeightCopy

# Shape legend: B = cases, N = videos, D = width of a taste, K = live signals, E = D + K and more.

SYNCS_MS: dict[str, int | None] = {
    "2 s": 2_000,
    "1 min": 60_000,
    "30 min": 30 * 60_000,
    "1 h": HOUR_MS,
    "5 h": 5 * HOUR_MS,
    "never": None,
}
"""How often weights are synced; never means since before the first test."""
COUNTERS = ("live", "synced")
"""Counters of the moment of the case, or those that came with the weights."""
USER_VECTORS_MS: dict[str, int] = {"per event": 0, "hourly": HOUR_MS, "daily": DAY_MS}
"""How often the window that a user vector is computed from is renewed."""
EVERY_TWO_SECONDS = EvaluationPace(most_completed=64, span_ms=2_000)


class Ages(NamedTuple):
    """One row of the table: how old what scores may be."""

    sync: str
    counters: str
    user_vectors: str


ALL_AGES = tuple(Ages(*one) for one in product(SYNCS_MS, COUNTERS, USER_VECTORS_MS))


class LateWindows:
    """The windows of all users as of the last multiple of an interval."""

    def __init__(self, every_ms: int) -> None:
        self._every_ms = every_ms
        self._window_by_user: dict[str, tuple[int, Window]] = {}

    def window(self, one: Case | Exposure) -> Window:
        """Return the window of the user of *one*, to be called for each of them in order."""
        if not self._every_ms:
            return one.window
        tick = one.event_time_ms // self._every_ms
        known = self._window_by_user.get(one.user_id)
        if known is None or known[0] != tick:
            # a window changes with its own user's exposures alone, and this is the first since
            known = self._window_by_user[one.user_id] = (tick, one.window)
        return known[1]


@dataclass(slots=True)
class _Synced:
    """What was taken at the last sync."""

    tick: int
    weights: WeightCopy
    signals_NK: Float32[np.ndarray, "N K"]


@dataclass(slots=True)
class FreshnessEntrant:
    """A model in a trial, and the ranks of each case by each of `ALL_AGES`."""

    name: str
    contender: Learned
    pace: EvaluationPace = EVERY_TWO_SECONDS
    ranks: dict[Ages, list[Ranks]] = field(default_factory=lambda: {one: [] for one in ALL_AGES})
    num_syncs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SYNCS_MS, 0))
    train_s: float = 0.0
    score_s: float = 0.0
    _late: dict[str, LateWindows] = field(
        default_factory=lambda: {name: LateWindows(ms) for name, ms in USER_VECTORS_MS.items()}
    )
    _synced: dict[str, _Synced] = field(default_factory=dict)
    _newest: tuple[int, WeightCopy] | None = None
    _exposures: list[Exposure] = field(default_factory=list)
    _cases: list[tuple[Case, list[Window]]] = field(default_factory=list)
    _num_completed: int = 0

    @property
    def _learner(self) -> Learner:
        return self.contender.learner

    def prepare(self, training: TrainingData) -> None:
        """Prepare the model with what is known before the log."""
        started_s = process_time()
        self.contender.prepare(training)
        self.train_s += process_time() - started_s

    def freeze(self) -> None:
        """Finish the batch, and sync everything for the first test."""
        self.finish_batch()
        self._synced = {name: self._sync(name, 0) for name in SYNCS_MS}

    def take(self, exposure: Exposure, case: Case | None, stopped: Case | None) -> None:
        """Add *exposure* to the batch; *case* and *stopped* are given if it is ranked."""
        waiting = self._exposures
        if waiting and exposure.event_time_ms - waiting[0].event_time_ms >= self.pace.span_ms:
            self.finish_batch()
        windows = [late.window(exposure) for late in self._late.values()]
        self._exposures.append(exposure)
        self._num_completed += exposure.is_completed
        if case is not None and stopped is not None:
            self._cases.append((case, windows))
        if self._num_completed >= self.pace.most_completed:
            self.finish_batch()

    def finish_batch(self) -> None:
        """Score the waiting cases with everything, then learn from the exposures of the batch."""
        if self._cases:
            started_s = process_time()
            self._sync_due(self._cases[0][0].event_time_ms)
            self._score()
            self.score_s += process_time() - started_s
        if self._exposures:
            started_s = process_time()
            self.contender.observe(self._exposures)
            self.train_s += process_time() - started_s
        self._exposures, self._cases, self._num_completed = [], [], 0

    def _sync_due(self, now_ms: int) -> None:
        for name, every_ms in SYNCS_MS.items():
            if every_ms is not None and now_ms // every_ms != self._synced[name].tick:
                self._synced[name] = self._sync(name, now_ms // every_ms)

    def _sync(self, name: str, tick: int) -> _Synced:
        """Return what the learner has now; weights that have not moved are not copied again."""
        if self._newest is None or self._newest[0] != self._learner.num_steps:
            self._newest = self._learner.num_steps, self._learner.weight_copy()
        self.num_syncs[name] += 1
        return _Synced(tick, self._newest[1], self._learner.live_signals())

    def _score(self) -> None:
        """Rank the labels of the waiting cases by each of `ALL_AGES`."""
        cases = [case for case, _ in self._cases]
        labels, exposed = [case.label for case in cases], [case.exposed for case in cases]
        for ages, score_BN in self._scores(cases):
            self.ranks[ages].append(ranks.rank(score_BN, labels, exposed, top=0))

    def _scores(self, cases: Sequence[Case]) -> Iterator[tuple[Ages, Float32[np.ndarray, "B N"]]]:
        """Yield the scores of all videos by each of `ALL_AGES`.

        They are the served inner products but for a factor: what simple LSH adds to an item meets
        a zero of the user.
        """
        windows = [
            those[place] for place in range(len(USER_VECTORS_MS)) for _, those in self._cases
        ]
        users = self._learner.encode(
            [
                Example(case.user_id, window, self._learner.video_ids[case.label], 0)
                for case, window in zip([*cases] * len(USER_VECTORS_MS), windows, strict=True)
            ]
        ).users
        now_NK = self._learner.live_signals()
        tastes: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for sync, synced in self._synced.items():
            if id(synced.weights) not in tastes:
                tastes[id(synced.weights)] = _tastes(synced.weights, users, now_NK.shape[1])
            taste_BN, signal_BK = tastes[id(synced.weights)]
            for counters, signals_NK in (("live", now_NK), ("synced", synced.signals_NK)):
                score_BN = taste_BN + signal_BK @ signals_NK.T if signal_BK.size else taste_BN
                by_user_vectors = np.split(score_BN, len(USER_VECTORS_MS))
                for user_vectors, those_BN in zip(USER_VECTORS_MS, by_user_vectors, strict=True):
                    yield Ages(sync, counters, user_vectors), those_BN.copy()


def _tastes(
    weights: WeightCopy, users: UserBatch, num_signals: int
) -> tuple[Float32[np.ndarray, "B N"], Float32[np.ndarray, "B K"]]:
    """Return what *users* score all videos by taste, and how much each signal weighs for them."""
    user_BE = weights.users(users)
    dim = weights.taste_ND.shape[1]
    return user_BE[:, :dim] @ weights.taste_ND.T, user_BE[:, dim : dim + num_signals]
