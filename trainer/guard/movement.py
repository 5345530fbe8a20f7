"""Tell when vectors move much faster than they usually do: learning has lost its measure.

Each time vectors are published for the generation in service, the median of how far they have moved
since they were published last, as a share of their length, is compared with what is usual. A wrong
learning rate shows here within seconds, long before it shows in what is found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contract.wire.events import ItemVector
from models.serving.items import ItemStore

MAX_TIMES_USUAL = 4.0
NUM_IN_A_ROW = 3
"""So many publications in a row have to move that far."""
WARM_UP = 10
"""So many publications tell what is usual."""
MIN_VIDEOS = 10
_RATE = 0.1


@dataclass(slots=True)
class MovementMonitor:
    """The usual movement of one publication, and how many in a row were far above it."""

    usual: float = 0.0
    num_noted: int = 0
    num_far: int = 0
    began_at: int = 0
    """The number of plays when the first of those was published."""
    last: float = 0.0

    def note(self, vectors: Sequence[ItemVector], items: ItemStore, *, num_plays: int) -> None:
        """Look at *vectors* that replace those in *items*."""
        rows = items.rows([vector.video_id for vector in vectors])
        known = np.flatnonzero(rows)
        if len(known) < MIN_VIDEOS:
            return
        old_nD = items.inputs_ND[rows[known]]
        new_nD = np.array([vectors[place].input_vector for place in known.tolist()], np.float32)
        moved_n = np.linalg.norm(new_nD - old_nD, axis=1)
        self.last = float(np.median(moved_n / np.maximum(np.linalg.norm(old_nD, axis=1), 1e-9)))
        if self.num_noted >= WARM_UP and self.last > MAX_TIMES_USUAL * self.usual:
            self.began_at = self.began_at if self.num_far else num_plays
            self.num_far += 1
            return
        self.num_far = 0
        self.num_noted += 1
        share = max(_RATE, 1 / self.num_noted)
        self.usual += share * (self.last - self.usual)

    @property
    def reason(self) -> str | None:
        """Why the movement is not to be trusted; None while it is."""
        if self.num_far < NUM_IN_A_ROW:
            return None
        return f"vectors move {self.last / max(self.usual, 1e-9):.1f} times as far as they used to"

    def calm(self) -> None:
        """Forget what was far."""
        self.num_far = 0
