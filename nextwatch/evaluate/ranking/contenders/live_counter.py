"""Score by live counters: the rate of the video, or that times the rate of its surface.

Neither knows anything of the user.
"""

import copy
from typing import Self

import numpy as np
from jaxtyping import Float64, Int64

from nextwatch.evaluate.ranking.contender import Exposures, Outcomes, RankTraining, Scores
from nextwatch.evaluate.ranking.counters import (
    CLICKED,
    COMPLETED,
    COUNTED,
    WATCH_S,
    DecayedCounter,
    counted,
)

# Shape legend: B = exposures of a batch, Y = what is counted.

HALF_LIFE_H = 48.0
_STRENGTH = 10.0
_MOST_SURFACES = 64


class LiveCounter:
    """Scores by how often a video was watched when it was shown, lately.

    With *has_surface* the rate of the surface over the rate of everything multiplies it.
    """

    def __init__(self, half_life_h: float = HALF_LIFE_H, *, has_surface: bool = False) -> None:
        self._half_life_h = half_life_h
        self._has_surface = has_surface
        self._label = CLICKED
        self._video = self._surface = self._all = DecayedCounter(0, half_life_h)

    def prepare(self, training: RankTraining) -> None:
        """Start at zero."""
        self._label = COMPLETED if training.is_completed_the_label else CLICKED
        self._video = DecayedCounter(len(training.uploads), self._half_life_h)
        self._surface = DecayedCounter(_MOST_SURFACES, self._half_life_h)
        self._all = DecayedCounter(1, self._half_life_h)

    def hold_own_state(self) -> None:
        """Do nothing: there is no state of users."""

    def score(self, exposures: Exposures, *, is_own_still: bool) -> Scores:  # noqa: ARG002
        """Return the smoothed rate and the smoothed mean watch time."""
        time_ms_B = exposures.time_ms_B
        all_BY = self._all.rates(
            np.zeros(len(exposures.user_B), np.int64), time_ms_B, _prior(), 1.0
        )
        rate_BY = self._video.rates(exposures.column_B, time_ms_B, all_BY, _STRENGTH)
        if self._has_surface:
            surface_BY = self._surface.rates(_surface(exposures), time_ms_B, all_BY, _STRENGTH)
            rate_BY *= surface_BY / all_BY
        return Scores(np.minimum(rate_BY[:, self._label], 1.0), rate_BY[:, WATCH_S])

    def observe(self, exposures: Exposures, outcomes: Outcomes) -> None:
        """Count for the videos and surfaces."""
        outcome_BY, time_ms_B = counted(outcomes), exposures.time_ms_B
        self._video.add(exposures.column_B, time_ms_B, outcome_BY)
        self._surface.add(_surface(exposures), time_ms_B, outcome_BY)
        self._all.add(np.zeros(len(exposures.user_B), np.int64), time_ms_B, outcome_BY)

    def frozen(self) -> Self:
        """Return a copy."""
        return copy.deepcopy(self)


def _prior() -> Float64[np.ndarray, "Y"]:
    """Return what is expected before anything was shown: of an even chance, half a minute."""
    prior_Y = np.full(len(COUNTED), 0.5)
    prior_Y[WATCH_S] = 30.0
    return prior_Y


def _surface(exposures: Exposures) -> Int64[np.ndarray, "B"]:
    surface_B: np.ndarray = np.clip(exposures.surface_B + 1, 0, _MOST_SURFACES - 1)
    return surface_B
