"""Rank by recent popularity, which every recommender has to beat.

A decayed count is a number of completed watches, each worth half as much for every half-life
that has passed since. Each is added with a weight that grows with its time (forward decay), so
that nothing is touched but the video that was watched. Watches from before the log have no
times: they are what the count that never decays is made of, and of nothing else.

Source:
    Cormode, Shkapenyuk, Srivastava, Xu, Forward Decay: A Practical Time Decay Model for
    Streaming Systems, ICDE 2009, https://doi.org/10.1109/ICDE.2009.65
"""

import copy
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64

from models.history.history import HOUR_MS
from nextwatch.evaluate.contender import Case, Exposure, TrainingData

# Shape legend: B = cases, N = videos.

_MAX_HALF_LIVES = 32.0  # then the weights are scaled down: float64 has 53 bits


class PopularityBaseline:
    """Ranks alike for all users, by a count of completed watches that halves every *half_life_h*.

    Without a half-life it is the popularity of the time before the log, and stands still.
    """

    def __init__(self, half_life_h: float | None) -> None:
        self._half_life_ms = None if half_life_h is None else half_life_h * HOUR_MS
        self._landmark_ms = 0
        self._count_N: Float64[np.ndarray, N] = np.zeros(0)

    def prepare(self, training: TrainingData) -> None:
        """Start at zero; without a half-life, count the completed watches of the histories."""
        self._count_N = np.zeros(len(training.uploads))
        if self._half_life_ms is None:
            for history in training.histories:
                np.add.at(self._count_N, np.array(history.completed, np.intp), 1.0)

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return the same scaled counts for all users."""
        return np.repeat(self.weights_N[None, :], len(cases), axis=0)

    @property
    def weights_N(self) -> Float32[np.ndarray, "N"]:
        """The decayed counts, scaled so that the largest is 1; all zeros before the first."""
        most = self._count_N.max(initial=0.0)
        weight_N: np.ndarray = (self._count_N / (most or 1.0)).astype(np.float32)
        return weight_N

    def observe(self, exposures: Sequence[Exposure]) -> None:
        """Count the completed watches, if counts decay."""
        if self._half_life_ms is None:
            return
        for exposure in exposures:
            if exposure.is_completed:
                weight = self._weight(exposure.event_time_ms, self._half_life_ms)
                self._count_N[exposure.column] += weight

    def counting(self) -> None:
        """Return None: only a model alone has weights to stop beside counters."""

    def frozen(self) -> "PopularityBaseline":
        """Return a copy that no longer changes."""
        return copy.deepcopy(self)

    def _weight(self, time_ms: int, half_life_ms: float) -> float:
        half_lives = (time_ms - self._landmark_ms) / half_life_ms
        if half_lives > _MAX_HALF_LIVES:
            self._count_N *= 2.0**-half_lives if self._landmark_ms else 1.0
            self._landmark_ms, half_lives = time_ms, 0.0
        return float(2.0**half_lives)
