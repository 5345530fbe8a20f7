"""Compare two models on the same examples, one after the other (Page's CUSUM test).

Both rank the same catalogue for the same user at the same time, so what the audience does to one it
does to the other, and a small difference shows soon.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

TOLERANCE = 0.03
"""A model may find so many more of 100 x this watched videos less than the other one."""
MOST_LOST = 20.0
"""So many watched videos fewer than tolerated, and it is worse."""


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

    def note(self, hits_B: Float[np.ndarray, "B"], other_B: Float[np.ndarray, "B"]) -> None:
        """Count the examples of a batch: 1 where the model, or the other one, has found it."""
        for hit, other in zip(hits_B.tolist(), other_B.tolist(), strict=True):
            self.lost = max(0.0, self.lost + other - hit - TOLERANCE)
            self.num_since = self.num_since + 1 if self.lost else 0
        self.num_examples += len(hits_B)
        self.hits += float(hits_B.sum())
        self.other_hits += float(other_B.sum())

    @property
    def is_worse(self) -> bool:
        """Whether the model is worse than the other one."""
        return self.lost >= MOST_LOST

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
