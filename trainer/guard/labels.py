"""Tell from the labels themselves when they stop meaning what they meant.

A small logistic model predicts whether a play is completed, from how often its video and its user
completed before. If a share of the labels were flipped, by a client's bug or on purpose, the labels
would be likelier under that than under the model; the evidence for it is summed up and never falls
below zero (Page's CUSUM test). The play at which it last left zero is where the trouble began.
Honest labels take evidence back; when it is below the threshold again, the labels are trusted.

What is tested is a share of `FLIPPED`; a larger one is found sooner.

Source:
    Page, Continuous Inspection Schemes, Biometrika 1954, https://doi.org/10.2307/2333009
"""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64

from models.features.examples import CompletionRule
from models.history.history import Window

# Shape legend: n = some rows.

FLIPPED = 0.1
THRESHOLD = 10.0
"""The evidence at which it alarms, as a logarithm of a likelihood ratio."""
MOST_TIMES_THRESHOLD = 2.0
"""Evidence adds up to so much at most, so that honest labels take it back in as many plays."""
WARM_UP = 2_000
"""So many plays are learned from before the first can be evidence."""
_VIDEO_PRIOR, _USER_PRIOR = 20.0, 8.0
_RATE = 0.002
_BOUND = 0.02
_NUM_WEIGHTS = 3
_MAX_WATCHES = 50
_PER_PLAY = 3.0
"""No single play is more evidence than this."""


class LabelMonitor:
    """Predicts each label before it counts it, and sums up the evidence of flipped labels."""

    def __init__(self, completion: CompletionRule, *, threshold: float = THRESHOLD) -> None:
        self._completion = completion
        self._threshold = threshold
        self._plays = np.zeros(1)
        self._completed = np.zeros(1)
        self._weights = np.array([0.0, 1.0, 1.0])
        self._mean = 0.5
        self.num_plays = 0
        self.evidence = 0.0
        self.began_at = 0
        """The number of plays when the evidence last left zero."""

    def note(self, row: int, window: Window, *, is_completed: bool) -> None:
        """Count one play of the video of *row* by a user whose *window* was this before it."""
        self._reserve(row)
        x = self._inputs(row, window)
        mean_logit = _logit(self._mean)
        p = _clipped(1.0 / (1.0 + math.exp(-(mean_logit + float(self._weights @ x)))))
        if self.num_plays >= WARM_UP:
            self._weigh(p, is_completed=is_completed)
        error = float(is_completed) - p
        self._weights += _RATE * error * x
        self._mean = _clipped(self._mean + _RATE * (float(is_completed) - self._mean))
        self._plays[row] += 1
        self._completed[row] += is_completed
        self.num_plays += 1

    def forget_rows(self, rows: Int64[np.ndarray, "n"]) -> None:
        """Forget the videos that had *rows*, which others will have."""
        known = rows[rows < len(self._plays)]
        self._plays[known] = self._completed[known] = 0.0

    @property
    def reason(self) -> str | None:
        """Why the labels are not to be trusted; None while they are."""
        if self.evidence < self._threshold:
            return None
        return (
            f"labels contradict what videos and users were known for, evidence {self.evidence:.1f}"
        )

    def state(self) -> dict[str, np.ndarray]:
        """Return everything a restart needs."""
        rest = [self._mean, float(self.num_plays), self.evidence, float(self.began_at)]
        return {
            "plays": self._plays.copy(),
            "completed": self._completed.copy(),
            "weights": self._weights.copy(),
            "rest": np.array(rest),
        }

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
        self._plays, self._completed = arrays["plays"].copy(), arrays["completed"].copy()
        self._weights = arrays["weights"].copy()
        self._mean, num_plays, self.evidence, began_at = arrays["rest"].tolist()
        self.num_plays, self.began_at = int(num_plays), int(began_at)

    def _weigh(self, p: float, *, is_completed: bool) -> None:
        if_flipped = p * (1 - FLIPPED) + (1 - p) * FLIPPED
        ratio = if_flipped / p if is_completed else (1 - if_flipped) / (1 - p)
        before = self.evidence
        most = MOST_TIMES_THRESHOLD * self._threshold
        self.evidence = min(max(0.0, before + min(math.log(ratio), _PER_PLAY)), most)
        if before == 0.0:
            self.began_at = self.num_plays

    def _inputs(self, row: int, window: Window) -> np.ndarray:
        watches = window.watches[-_MAX_WATCHES:]
        done = sum(self._completion.is_completed(w.watch_ms, w.duration_ms) for w in watches)
        of_video = self._completed[row] + self._mean * _VIDEO_PRIOR
        of_user = done + self._mean * _USER_PRIOR
        mean_logit = _logit(self._mean)
        return np.array([
            1.0,
            _logit(_clipped(of_video / (self._plays[row] + _VIDEO_PRIOR))) - mean_logit,
            _logit(_clipped(of_user / (len(watches) + _USER_PRIOR))) - mean_logit,
        ])  # fmt: skip

    def _reserve(self, row: int) -> None:
        if row >= len(self._plays):
            more = max(row + 1, 2 * len(self._plays)) - len(self._plays)
            self._plays = np.concatenate([self._plays, np.zeros(more)])
            self._completed = np.concatenate([self._completed, np.zeros(more)])


def _clipped(p: float) -> float:
    return min(max(p, _BOUND), 1.0 - _BOUND)


def _logit(p: float) -> float:
    return math.log(p / (1.0 - p))
