"""Remember which videos have vectors that are out of date, by generation.

Watched videos go first: a watch moves their counters, which retrieval and ranking go by, and all of
them together are fewer than one publication holds. What learning has moved besides, by the
embedding of a negative or by a count that decays, moves little in each step and is most of what is
touched. In one queue with those, a watched video waited for seconds.
Within each of the two, who has waited longest goes first.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int64, Integer

from models.features.growth import FIRST_CAPACITY, grown
from models.features.vocabulary import Vocabulary
from models.training.frozen import NUM_FROZEN

# Shape legend: N = rows of the vocabulary, n = some of them.

_WATCHED, _CHANGED = -(1 << 60), -(1 << 61)
"""Where the places of watched videos and of changed uploads begin; those of others are positive."""


class Touched:
    """Rows by generation, of the newest `NUM_FROZEN`, in the order in which they are published.

    An array by row, since a batch that catches up touches tens of thousands of videos: as sets of
    ids they took longer than learning did.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._order_by_generation: dict[int, Int64[np.ndarray, N]] = {}
        self._first, self._last, self._last_watched = _CHANGED, 0, _WATCHED

    def __contains__(self, generation: int) -> bool:
        return generation in self._order_by_generation

    def __iter__(self) -> Iterator[int]:
        return iter(self._order_by_generation)

    def is_waiting(self, generation: int) -> bool:
        """Return whether a video of *generation* waits."""
        return generation in self and bool(self._order_by_generation[generation].any())

    def start(self, generation: int, *, in_service: int | None = None) -> None:
        """Start *generation*, of which nothing is touched yet; forget the oldest beyond three.

        The one *in_service* is not forgotten.
        """
        self._order_by_generation[generation] = np.zeros(FIRST_CAPACITY, np.int64)
        while len(self._order_by_generation) > NUM_FROZEN:
            del self._order_by_generation[min(one for one in self if one != in_service)]

    def drop(self, generation: int) -> None:
        """Forget *generation*."""
        self._order_by_generation.pop(generation, None)

    def add(self, rows: Integer[np.ndarray, "n"]) -> None:
        """Add *rows* to every generation, behind what waits; row 0 is left out."""
        _, at = np.unique(rows, return_index=True)
        rows = rows[np.sort(at)]
        rows = rows[rows > 0]
        for order_N in self._orders():
            new = rows[order_N[rows] == 0]
            order_N[new] = self._last + 1 + np.arange(len(new))
        self._last += len(rows)

    def add_watched(self, rows: Integer[np.ndarray, "n"]) -> None:
        """Add *rows* to every generation, behind watched ones and before all others."""
        _, at = np.unique(rows, return_index=True)
        rows = rows[np.sort(at)]
        rows = rows[rows > 0]
        for order_N in self._orders():
            new = rows[order_N[rows] >= 0]
            order_N[new] = self._last_watched + 1 + np.arange(len(new))
        self._last_watched += len(rows)

    def put_first(self, row: int) -> None:
        """Add *row* to every generation, before all that waits."""
        self._first -= 1
        for order_N in self._orders():
            order_N[row] = self._first

    def discard(self, rows: Integer[np.ndarray, "n"]) -> None:
        """Take *rows* out of every generation."""
        for order_N in self._orders():
            order_N[rows] = 0

    def take(
        self, generation: int, most: int, *, most_others: int | None = None
    ) -> Int64[np.ndarray, "n"]:
        """Take out the first *most* rows of *generation*.

        Of those that learning alone has moved up to *most_others*, if that is given.
        """
        if generation not in self:
            return np.zeros(0, np.int64)
        order_N = self._order_by_generation[generation]
        if most_others is not None:
            most = min(most, int((order_N < 0).sum()) + most_others)
        rows = np.flatnonzero(order_N)
        taken: np.ndarray = rows[np.argsort(order_N[rows], kind="stable")[:most]]
        order_N[taken] = 0
        return taken

    def video_ids(self) -> dict[int, list[str]]:
        """Return what waits, oldest first, for a checkpoint."""
        ids = self._vocabulary.video_ids
        found = {}
        for generation, order_N in self._order_by_generation.items():
            rows = np.flatnonzero(order_N)
            rows = rows[np.argsort(order_N[rows], kind="stable")]
            found[generation] = [ids[row - 1] for row in rows.tolist()]
        return found

    def num_before_others(self) -> dict[int, int]:
        """Return how many of `video_ids` go before what learning alone has moved."""
        return {
            generation: int((order_N < 0).sum())
            for generation, order_N in self._order_by_generation.items()
        }

    def load(
        self,
        video_ids: Mapping[int, Sequence[str]],
        num_before_others: Mapping[int, int] = {},
    ) -> None:
        """Restore what these two returned, once the vocabulary is as it was."""
        self._order_by_generation, self._first = {}, _CHANGED
        self._last = self._last_watched = 0
        for generation, ids in video_ids.items():
            num_first = num_before_others.get(generation, 0)
            order_N = np.zeros(len(self._vocabulary) + 1, np.int64)
            order = 1 + np.arange(len(ids))
            order[:num_first] += _WATCHED
            order_N[self._vocabulary.rows(ids)] = order
            order_N[0] = 0
            self._order_by_generation[generation] = order_N
        self._last = max(map(len, video_ids.values()), default=0)
        self._last_watched = _WATCHED + self._last

    def _orders(self) -> list[Int64[np.ndarray, "N"]]:
        num_rows = len(self._vocabulary) + 1
        for generation, order_N in self._order_by_generation.items():
            self._order_by_generation[generation] = grown(order_N, num_rows)
        return list(self._order_by_generation.values())
