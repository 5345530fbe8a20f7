"""Turn a probability into a watch time, for contenders that predict no more than that.

The expected watch time of an exposure is that of positives of like duration, times the
probability, and that of negatives, times the rest. Both means are running ones.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64

# Shape legend: B = exposures of a batch, K = classes of duration.

EDGES_S = np.array([7, 10, 13, 17, 22, 30, 45, 60, 80, 110, 150, 220], np.float64)
NUM_CLASSES = len(EDGES_S) + 1
_STRENGTH = 20.0


def duration_class(duration_ms_B: Int64[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
    """Return the class of each duration, from 0."""
    class_B: np.ndarray = np.digitize(duration_ms_B / 1000, EDGES_S)
    return class_B


class WatchByDuration:
    """Running means of watch time, of positives and of negatives by duration."""

    def __init__(self) -> None:
        self._count_K: Float64[np.ndarray, K] = np.zeros(2 * NUM_CLASSES)
        self._sum_K: Float64[np.ndarray, K] = np.zeros(2 * NUM_CLASSES)

    def expected_s(
        self, p_B: Float64[np.ndarray, "B"], duration_ms_B: Int64[np.ndarray, "B"]
    ) -> Float64[np.ndarray, "B"]:
        """Return the expected watch time of exposures that are positive with probability *p_B*."""
        mean = self._sum_K.sum() / max(self._count_K.sum(), 1.0)
        mean_K = (self._sum_K + _STRENGTH * mean) / (self._count_K + _STRENGTH)
        class_B = duration_class(duration_ms_B)
        expected_B: np.ndarray = p_B * mean_K[NUM_CLASSES + class_B] + (1.0 - p_B) * mean_K[class_B]
        return expected_B

    def add(
        self,
        duration_ms_B: Int64[np.ndarray, "B"],
        is_positive_B: Bool[np.ndarray, "B"],
        watch_s_B: Float64[np.ndarray, "B"],
    ) -> None:
        """Count what came of exposures."""
        key_B = duration_class(duration_ms_B) + NUM_CLASSES * is_positive_B
        np.add.at(self._count_K, key_B, 1.0)
        np.add.at(self._sum_K, key_B, watch_s_B)
