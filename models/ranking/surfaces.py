"""Track how often videos are watched on each surface, whichever they are.

With the watch lift of a video (`trainer.evaluate.popularity`) it says how often this video is
watched on this surface: the best single number there is for the order within a user.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer

from models.features.ranking_features import NUM_CODES

# Shape legend: S = codes of surfaces, M = candidates.

HALF_LIFE = 50_000.0
"""In examples: two days and a half of KuaiRand."""
PRIOR = 5.0
_LEAST_LIFT, _MOST_LIFT = 0.1, 10.0


class SurfaceRates:
    """Decayed counts of shown and watched videos by the code of the surface."""

    def __init__(self) -> None:
        self._shown_S = np.zeros(NUM_CODES + 1)
        self._watched_S = np.zeros(NUM_CODES + 1)

    @property
    def logit_S(self) -> Float32[np.ndarray, "S"]:
        """The logit of the smoothed share that is watched on each surface."""
        mean = (self._watched_S.sum() + 1.0) / (self._shown_S.sum() + 2.0)
        rate_S = (self._watched_S + PRIOR * mean) / (self._shown_S + PRIOR)
        logit_S: np.ndarray = np.log(rate_S / (1.0 - np.minimum(rate_S, 0.999)))
        return logit_S.astype(np.float32)

    def count(
        self, surface_M: Integer[np.ndarray, "M"], is_watched_M: Bool[np.ndarray, "M"]
    ) -> None:
        """Count shown videos."""
        keep = 0.5 ** (len(surface_M) / HALF_LIFE)
        self._shown_S *= keep
        self._watched_S *= keep
        np.add.at(self._shown_S, surface_M, 1.0)
        np.add.at(self._watched_S, surface_M[is_watched_M], 1.0)

    def state(self) -> dict[str, np.ndarray]:
        """Return the counts, for a checkpoint."""
        return {"shown_S": self._shown_S, "watched_S": self._watched_S}

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
        self._shown_S, self._watched_S = arrays["shown_S"].copy(), arrays["watched_S"].copy()


def surface_logit(
    logit_M: Float32[np.ndarray, "M"], lift_M: Float[np.ndarray, "M"]
) -> Float32[np.ndarray, "M"]:
    """Return the logit of videos with these lifts on surfaces with these logits."""
    lifted: np.ndarray = logit_M + np.log(np.clip(lift_M, _LEAST_LIFT, _MOST_LIFT))
    return lifted.astype(np.float32)
