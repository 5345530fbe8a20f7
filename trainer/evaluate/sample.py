"""Draw the examples of a batch that are validated, within a budget of processor time.

To rank the whole catalogue for one example takes as long as learning many, so that of a large
catalogue not every example can be ranked. The budget of a batch is a time, and is spent by what the
work was measured to cost, not by a clock: the same log draws the same examples on any machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from models.features.examples import Example

NS_PER_SCORE = 10.0
"""To score and rank one video for one user in all three ways, on one core of 2.5 GHz."""
NS_PER_VECTOR = 3_500.0
"""To compute the vector of one video."""


@dataclass(frozen=True, slots=True)
class ValidationBudget:
    """What validation may take of one batch, in milliseconds of a core: half scores, half vectors.

    Raises:
        ValueError: it is not above 0.
    """

    ms: float = 60.0

    def __post_init__(self) -> None:
        if not self.ms > 0:
            raise ValueError(f"the budget of validation must be above 0 ms, got {self.ms}")

    @property
    def num_vectors(self) -> int:
        """Of how many videos the vectors may be computed."""
        return int(self.ms * 1e6 / 2 / NS_PER_VECTOR)

    def draw(self, examples: Sequence[Example], num_videos: int) -> list[int]:
        """Return the places of the examples to validate, in order, at least one of them.

        By a hash of each example, so that it needs no state; uniformly, whatever their order.
        """
        most = max(1, int(self.ms * 1e6 / 2 / NS_PER_SCORE / max(num_videos, 1)))
        if len(examples) <= most:
            return list(range(len(examples)))
        hashes = np.array([_hashed(example) for example in examples], np.uint64)
        return sorted(np.argsort(hashes, kind="stable")[:most].tolist())


def _hashed(example: Example) -> int:
    named = f"{example.event_time_ms}\0{example.user_id}\0{example.video_id}"
    return xxhash.xxh3_64_intdigest(named.encode())
