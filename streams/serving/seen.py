"""Look up the rows of watched videos, and the order in which they may be recommended again."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int32, Int64

from models.history.history import Window
from models.serving.items import ItemStore

# Shape legend: M = watches of all users, S = watches of one, K = distinct videos among them.


class SeenRows:
    """The rows of the watched videos, looked up once for encoding and for leaving them out.

    Half of the lookups of a batch; in a hundred thousand ids each one misses the cache.
    """

    def __init__(self, items: ItemStore) -> None:
        self._items = items
        self._epoch = items.epoch
        self._rows_M = np.zeros(0, np.int32)

    def look_up(self, video_ids: Sequence[str]) -> Int32[np.ndarray, "M"]:
        """Return the row of each video, and keep them."""
        self._epoch, self._rows_M = self._items.epoch, self._items.rows(video_ids)
        return self._rows_M

    def of(self, windows: Sequence[Window]) -> list[Int32[np.ndarray, "S"]]:
        """Return the rows of each window's videos: those kept, if they are whole and still good."""
        sizes = [len(window.watches) for window in windows]
        if self._epoch != self._items.epoch or len(self._rows_M) != sum(sizes):
            return [self._items.rows(window.video_ids) for window in windows]
        return np.split(self._rows_M, np.cumsum(sizes)[:-1])


def longest_ago(seen: Int[np.ndarray, "S"]) -> Int64[np.ndarray, "K"]:
    """Return the distinct rows of *seen*, which is oldest first, by their last watch."""
    known = seen[seen > 0].astype(np.int64)
    _, places = np.unique(known[::-1], return_index=True)
    last: np.ndarray = known[np.sort(len(known) - 1 - places)]
    return last
