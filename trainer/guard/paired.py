"""Compare two models on the same examples, one after the other (Page's CUSUM test).

Both rank the same catalogue for the same user at the same time, so what the audience does to one it
does to the other, and a small difference shows soon.

The examples of one user are alike, so they are not so many witnesses: what was lost has to be more
than users differ by, too. Its deviation is estimated by user, as that of a sum of clusters whose
means are zero: what one user has lost is one deviation, what four have lost alike is two.

Source:
    Liang and Zeger, Longitudinal Data Analysis Using Generalized Linear Models, Biometrika 1986,
    https://doi.org/10.1093/biomet/73.1.13
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

TOLERANCE = 0.03
"""A model may find so many more of 100 x this watched videos less than the other one."""
MOST_LOST = 20.0
"""So many watched videos fewer than tolerated, and it is worse, if that is also"""
MIN_DEVIATIONS = 2.0
"""so many deviations of the sum over users."""


@dataclass(slots=True)
class PairedRecall:
    """How often a model has found what was watched next, and how often another one has."""

    num_examples: int = 0
    hits: float = 0.0
    other_hits: float = 0.0
    lost: float = 0.0
    """The videos that the model has found fewer than tolerated since it was last good enough."""
    num_since: int = 0
    """The examples since then."""
    _lost_by: dict[str, float] = field(default_factory=dict)
    _squares: float = 0.0

    def note(
        self,
        hits_B: Float[np.ndarray, "B"],
        other_B: Float[np.ndarray, "B"],
        user_ids: Sequence[str],
    ) -> None:
        """Count the examples of a batch: 1 where the model, or the other one, has found it.

        *user_ids* are those of the users whose examples they are.
        """
        for hit, other, user_id in zip(hits_B.tolist(), other_B.tolist(), user_ids, strict=True):
            self._count(other - hit - TOLERANCE, user_id)
        self.num_examples += len(hits_B)
        self.hits += float(hits_B.sum())
        self.other_hits += float(other_B.sum())

    def forget(self, user_id: str) -> None:
        """Erase a user; what was lost stays lost."""
        self._lost_by.pop(user_id, None)

    @property
    def share_of_bound(self) -> float:
        """What was lost as a share of what makes the model worse than the other one."""
        return self.lost / max(MOST_LOST, MIN_DEVIATIONS * math.sqrt(max(self._squares, 0.0)))

    @property
    def is_worse(self) -> bool:
        """Whether the model is worse than the other one."""
        return self.share_of_bound >= 1.0

    @property
    def recall(self) -> float:
        """The recall of the model."""
        return self.hits / max(self.num_examples, 1)

    @property
    def other_recall(self) -> float:
        """The recall of the other one."""
        return self.other_hits / max(self.num_examples, 1)

    @property
    def reaches(self) -> bool:
        """Whether the model's recall on all of the examples is at least that of the other."""
        return self.recall >= self.other_recall

    def _count(self, lost: float, user_id: str) -> None:
        self.lost = max(0.0, self.lost + lost)
        if not self.lost:
            self.num_since, self._squares = 0, 0.0
            self._lost_by.clear()
            return
        self.num_since += 1
        before = self._lost_by.get(user_id, 0.0)
        self._lost_by[user_id] = before + lost
        self._squares += (before + lost) ** 2 - before**2
