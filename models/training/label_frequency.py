"""Estimate how often each video is a label, for the logQ correction.

Counts halve with event time, so that a hit of last week is not thought to be in every batch
for ever. The paper keeps a moving average of the steps between two hits instead, in an array of
hashes: less memory, and a worse estimate where hits are rare. Measured on the completed watches
of KuaiRand, 25-30 April, second half: the next label costs 7.47 nats by counts that halve in a
day, 7.56 by intervals with their best rate (0.4).

Source:
    Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations,
    RecSys 2019, section 4.2, https://doi.org/10.1145/3298689.3346996
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64, Integer

from models.features.growth import FIRST_CAPACITY, grown

# Shape legend: N = rows, row 0 included; n = some rows.


_MAX_HALF_LIVES = 32.0  # beyond it the weights are scaled down: float64 has 53 bits


class LabelFrequency:
    """A decayed count of labels for each row.

    A label is added with a weight that grows with its time (forward decay, as in
    `trainer.evaluate.popularity`), so that a batch touches its own rows alone.
    """

    def __init__(self, *, half_life_ms: int) -> None:
        self._half_life_ms = half_life_ms
        self._landmark_ms = 0
        self._weight_N = np.zeros(FIRST_CAPACITY)
        self._total = 0.0
        self.newest_ms = 0

    @property
    def count_N(self) -> Float64[np.ndarray, "N"]:
        """The decayed number of labels of every row."""
        return self._weight_N * self._scale

    def reserve(self, row: int) -> None:
        """Make room for *row*, by doubling."""
        self._weight_N = grown(self._weight_N, row + 1)

    def move_to(self, now_ms: int) -> None:
        """Decay the counts up to *now_ms*; an earlier time changes nothing."""
        if not self.newest_ms:
            self._landmark_ms = now_ms
        self.newest_ms = max(self.newest_ms, now_ms)
        if self.newest_ms - self._landmark_ms > _MAX_HALF_LIVES * self._half_life_ms:
            self._settle(self.newest_ms)

    def turn_back(self, now_ms: int, *, latest_ms: int) -> bool:
        """Set the clock to *now_ms* if it stands after *latest_ms*; return whether it did."""
        if self.newest_ms <= latest_ms:
            return False
        self._settle(now_ms)
        self.newest_ms = now_ms
        return True

    def forget(self, rows: Integer[np.ndarray, "n"]) -> None:
        """Forget the labels of *rows*."""
        self._total -= float(self._weight_N[rows].sum())
        self._weight_N[rows] = 0.0

    def add(self, rows: Integer[np.ndarray, "n"]) -> None:
        """Count these labels; a row given twice counts twice."""
        weight = 1.0 / self._scale
        np.add.at(self._weight_N, rows, weight)
        self._total += weight * len(rows)

    def counts(self, rows: Integer[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
        """Return the decayed number of labels of each row."""
        counts: np.ndarray = self._weight_N[rows] * self._scale
        return counts

    def shares(self, rows: Integer[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
        """Return how likely each row is to be the label of an example; all 0 before the first."""
        return self.counts(rows) / max(self._total * self._scale, 1.0)

    def state(self) -> tuple[Float64[np.ndarray, "N"], dict[str, int | float]]:
        """Return weights and times, for a checkpoint."""
        meta: dict[str, int | float] = {"landmark_ms": self._landmark_ms, "total": self._total}
        return self._weight_N, meta | {"newest_ms": self.newest_ms}

    def load_state(self, weight_N: Float64[np.ndarray, "N"], meta: Mapping[str, Any]) -> None:
        """Restore what `state` returned; of 0.2, whose counts had decayed to the newest time."""
        self._weight_N = weight_N.copy()
        self.newest_ms = int(meta["newest_ms"])
        self._landmark_ms = int(meta.get("landmark_ms", self.newest_ms))
        self._total = meta.get("total", float(weight_N.sum()))

    @property
    def _scale(self) -> float:
        return float(0.5 ** ((self.newest_ms - self._landmark_ms) / self._half_life_ms))

    def _settle(self, landmark_ms: int) -> None:
        """Keep the counts of now as weights relative to *landmark_ms*."""
        self._weight_N *= self._scale
        self._total = float(self._weight_N.sum())
        self._landmark_ms = landmark_ms
