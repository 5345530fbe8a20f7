"""Score by minus the user's own click rate so far: the control of every figure within users.

It knows nothing of the video. With the user's own state still it scores all exposures of a user
alike, and must be as good as chance; anything else says that a figure measures the user's other
labels and not the order of videos.
"""

import copy
from typing import Self

import numpy as np

from nextwatch.evaluate.ranking.contender import Exposures, Outcomes, RankTraining, Scores
from nextwatch.evaluate.ranking.counters import CLICKED, WATCH_S, DecayedCounter, counted

HALF_LIFE_H = 48.0
_PRIOR = np.array([0.44, 0.32, 21.5])  # shares and seconds as KuaiRand's publisher describes them
_STRENGTH = 1.0


class Control:
    """Minus the user's click rate, of the last *half_life_h* hours or so."""

    def __init__(self, half_life_h: float = HALF_LIFE_H) -> None:
        self._half_life_h = half_life_h
        self._live = DecayedCounter(0, half_life_h)
        self._still = self._live
        self._held_ms = 0
        self._now_ms = 0

    def prepare(self, training: RankTraining) -> None:
        """Start with no rate of anybody."""
        self._live = DecayedCounter(len(training.user_ids), self._half_life_h)
        self.hold_own_state()

    def hold_own_state(self) -> None:
        """Keep the rates so far."""
        self._still = copy.deepcopy(self._live)
        self._held_ms = self._now_ms

    def score(self, exposures: Exposures, *, is_own_still: bool) -> Scores:
        """Return one minus the rate; a rate that stands still does not decay either."""
        counter = self._still if is_own_still else self._live
        time_ms_B = np.full_like(exposures.time_ms_B, self._held_ms)
        if not is_own_still:
            time_ms_B = exposures.time_ms_B
        rate_BY = counter.rates(exposures.user_B, time_ms_B, _PRIOR, _STRENGTH)
        p_B = 1.0 - rate_BY[:, CLICKED]
        return Scores(p_B, p_B * _PRIOR[WATCH_S] / (1.0 - _PRIOR[CLICKED]))

    def observe(self, exposures: Exposures, outcomes: Outcomes) -> None:
        """Count for the users."""
        self._live.add(exposures.user_B, exposures.time_ms_B, counted(outcomes))
        self._now_ms = int(exposures.time_ms_B[-1])

    def frozen(self) -> Self:
        """Return a copy."""
        return copy.deepcopy(self)
