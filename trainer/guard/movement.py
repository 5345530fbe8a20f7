"""Tell when the weights move much faster than they usually do: learning has lost its measure.

How far a step of Adam moves the dense weights follows the learning rate and hardly anything else,
so a wrong one shows after a few steps, long before it shows in what is found. One batch with an
unusual gradient is far, too, and its momentum carries on: ten later steps are far in the same
direction, each a tenth less than the last. So of each step the share is left out that continues the
one before. A healthy hour of the demo had the trainer go back once without that, most likely by it.

Embedding tables and the node scorer of TDM are not looked at: they have optimisers of their own.

Several steps between two looks count as so many: a batch of a backlog takes four, one of live
traffic one. Uncounted, a trainer that had been late for minutes was told to move 5.7 times as far
as usual, and went back.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

# Shape legend: P = dense weights.

MOMENTUM = 0.9
"""So much of each step is repeated in the next one: beta_1 of Adam (Kingma and Ba, ICLR 2015)."""
MAX_TIMES_USUAL = 4.0
NUM_IN_A_ROW = 3
"""So many steps in a row have to be that long."""
WARM_UP = 20
"""So many steps tell what is usual."""
_SHORTER, _ASIDE = 0.95, 0.02
"""A step without a gradient has at most so much of the length of the one before, and at most so
much of its own length in another direction."""
_RATE = 0.05


@dataclass(slots=True)
class MovementMonitor:
    """The usual length of a step, and how many in a row were far above it."""

    usual: float = 0.0
    num_steps: int = 0
    num_far: int = 0
    began_at: int = 0
    """The number of plays at the first of those."""
    _last: float = 0.0
    _weights_P: np.ndarray | None = None
    _step_P: np.ndarray | None = None
    _num_taken: int = 0

    def note(self, weights_P: Float32[np.ndarray, "P"], *, num_taken: int, num_plays: int) -> None:
        """Look at the weights as they are after *num_taken* steps of learning.

        The same weights as the last time are no step, nor is one without a gradient.
        """
        before_P, self._weights_P = self._weights_P, weights_P
        num_steps, self._num_taken = num_taken - self._num_taken, num_taken
        if before_P is None or len(before_P) != len(weights_P):
            self._step_P = None
            return
        step_P = (weights_P - before_P) / max(1, num_steps)
        if not step_P.any():
            return
        moved = float(np.linalg.norm(step_P - self._carried_on(num_steps)))
        is_finite = bool(np.isfinite(moved))
        is_momentum_alone = is_finite and self._only_fades(step_P)
        self._step_P = step_P if is_finite else None
        if is_momentum_alone:
            return
        self._last = moved
        if self.num_steps >= WARM_UP and not moved <= MAX_TIMES_USUAL * self.usual:
            self.began_at = self.began_at if self.num_far else num_plays
            self.num_far += 1
            return
        self.num_far = 0
        self.num_steps += 1
        self.usual += max(_RATE, 1 / self.num_steps) * (moved - self.usual)

    def _carried_on(self, num_steps: int) -> Float32[np.ndarray, "P"] | float:
        """Return what momentum alone makes of the mean step before, in each of *num_steps*."""
        if self._step_P is None:
            return 0.0
        return self._step_P * float(np.mean(MOMENTUM ** np.arange(1, max(1, num_steps) + 1)))

    def _only_fades(self, step_P: Float32[np.ndarray, "P"]) -> bool:
        """Return whether *step_P* is the mean step before, shortened."""
        if self._step_P is None or not (square := float(np.dot(self._step_P, self._step_P))):
            return False
        share = float(np.dot(step_P, self._step_P)) / square
        aside = float(np.linalg.norm(step_P - share * self._step_P))
        return 0 < share < _SHORTER and aside < _ASIDE * float(np.linalg.norm(step_P))

    @property
    def reason(self) -> str | None:
        """Why the movement is not to be trusted; None while it is."""
        if self.num_far < NUM_IN_A_ROW:
            return None
        return f"the weights move {self._last / self.usual:.1f} times as far in a step as usual"

    def calm(self) -> None:
        """Forget the steps that were far."""
        self.num_far = 0
