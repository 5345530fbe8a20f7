"""Count exposures and what came of them by key, each worth half as much per half-life that passed.

Each is added with a weight that grows with its time (forward decay), so nothing is touched but the
keys that were exposed; a count is read by dividing with the weight of the moment. Weights of a log
of days stay far below what a float64 holds.
"""

import numpy as np
from jaxtyping import Float64, Int64

from models.history.history import HOUR_MS
from nextwatch.evaluate.ranking.contender import Outcomes

# Shape legend: B = exposures of a batch, K = keys, Y = what is counted (`COUNTED`).

COUNTED = ("clicked", "completed", "watch_s")
CLICKED, COMPLETED, WATCH_S = range(len(COUNTED))


def counted(outcomes: Outcomes) -> Float64[np.ndarray, "B Y"]:
    """Return what counters count of *outcomes*, in the order of `COUNTED`."""
    return np.stack(
        [
            outcomes.is_clicked_B.astype(np.float64),
            outcomes.is_completed_B.astype(np.float64),
            outcomes.watch_s_B,
        ],
        axis=1,
    )


class DecayedCounter:
    """Exposures by key, and sums of what came of them; without a half-life nothing decays."""

    def __init__(self, num_keys: int, half_life_h: float | None) -> None:
        self._half_life_ms = None if half_life_h is None else half_life_h * HOUR_MS
        self._landmark_ms: int | None = None
        self._count_K: Float64[np.ndarray, K] = np.zeros(num_keys)
        self._sum_KY: Float64[np.ndarray, "K Y"] = np.zeros((num_keys, len(COUNTED)))

    def count(
        self, key_B: Int64[np.ndarray, "B"], time_ms_B: Int64[np.ndarray, "B"]
    ) -> Float64[np.ndarray, "B"]:
        """Return the decayed number of exposures of each key at its time."""
        found_B: np.ndarray = self._count_K[key_B] / self._weight(time_ms_B)
        return found_B

    def rates(
        self,
        key_B: Int64[np.ndarray, "B"],
        time_ms_B: Int64[np.ndarray, "B"],
        prior_BY: Float64[np.ndarray, "B Y"] | Float64[np.ndarray, "Y"],
        strength: float,
    ) -> Float64[np.ndarray, "B Y"]:
        """Return the mean outcomes of each key, with *strength* exposures like *prior_BY* added."""
        weight_B1 = self._weight(time_ms_B)[:, None]
        rate_BY: np.ndarray = (self._sum_KY[key_B] / weight_B1 + strength * prior_BY) / (
            self._count_K[key_B][:, None] / weight_B1 + strength
        )
        return rate_BY

    def add(
        self,
        key_B: Int64[np.ndarray, "B"],
        time_ms_B: Int64[np.ndarray, "B"],
        outcome_BY: Float64[np.ndarray, "B Y"],
    ) -> None:
        """Count exposures of *key_B*; a key may be there more than once."""
        if self._landmark_ms is None and len(time_ms_B):
            self._landmark_ms = int(time_ms_B[0])
        weight_B = self._weight(time_ms_B)
        np.add.at(self._count_K, key_B, weight_B)
        np.add.at(self._sum_KY, key_B, weight_B[:, None] * outcome_BY)

    def _weight(self, time_ms_B: Int64[np.ndarray, "B"]) -> Float64[np.ndarray, "B"]:
        if self._half_life_ms is None or self._landmark_ms is None:
            return np.ones(len(time_ms_B))
        weight_B: np.ndarray = np.exp2((time_ms_B - self._landmark_ms) / self._half_life_ms)
        return weight_B
