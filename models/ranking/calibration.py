"""Keep predicted watch time at what is watched: a factor for each class of duration.

Decayed totals of what was predicted and of what was watched, each counted after it was scored. The
factor is their ratio, drawn to that of all durations while there is little of one. So the total is
right within hours whatever the network does, and the order within a class is the network's.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Float64, Integer

from models.features.ranking_features import NUM_LENGTHS

# Shape legend: M = candidates, L = classes of duration.

HALF_LIFE = 10_000.0
"""In examples: half a day of KuaiRand."""
PRIOR_S = 2_000.0
"""A class counts as if this much more had been watched in it, at the factor of all durations."""


class Calibration:
    """Totals of predicted and watched seconds by class of duration."""

    def __init__(self) -> None:
        self._predicted_L = np.zeros(NUM_LENGTHS)
        self._watched_L = np.zeros(NUM_LENGTHS)

    @property
    def factor_L(self) -> Float64[np.ndarray, "L"]:
        """What a predicted watch time is multiplied by, by class of duration."""
        predicted, watched = self._predicted_L.sum(), self._watched_L.sum()
        whole = (watched + PRIOR_S) / (predicted + PRIOR_S)
        factor_L: np.ndarray = (self._watched_L + PRIOR_S * whole) / (self._predicted_L + PRIOR_S)
        return factor_L

    def count(
        self,
        length_M: Integer[np.ndarray, "M"],
        predicted_s_M: Float[np.ndarray, "M"],
        watched_s_M: Float[np.ndarray, "M"],
    ) -> None:
        """Count predictions, not yet calibrated, and what came of them."""
        keep = 0.5 ** (len(length_M) / HALF_LIFE)
        self._predicted_L *= keep
        self._watched_L *= keep
        np.add.at(self._predicted_L, length_M, predicted_s_M)
        np.add.at(self._watched_L, length_M, watched_s_M)

    def state(self) -> dict[str, np.ndarray]:
        """Return the totals, for a checkpoint."""
        return {"predicted_L": self._predicted_L, "watched_L": self._watched_L}

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
        self._predicted_L = arrays["predicted_L"].copy()
        self._watched_L = arrays["watched_L"].copy()
