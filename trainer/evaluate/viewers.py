"""Remember which user has counted for which video today.

One account that plays a video a hundred times in a second would else lift it for everybody. So a
user counts for a video once a day (UTC), once for having watched it and once for having completed
it; what a day is, the event's own time says.

The memory is a table of a fixed number of hashes, each in the one place that it may have. On a
collision the newer entry replaces the older one: then a user may count twice, never zero times. The
table is emptied when a new day begins.
"""

from collections.abc import Mapping

import numpy as np
import xxhash

from models.history.history import DAY_MS

SIZE = 1 << 20
"""8 MB. So many users and videos in one day are told apart well up to some hundred thousand."""


class Viewers:
    """Remembers the pairs of user and video that have counted today."""

    def __init__(self, size: int = SIZE) -> None:
        self._hashes = np.zeros(size, np.uint64)
        self._day = 0

    def is_first(self, user_id: str, video_id: str, time_ms: int, *, is_completed: bool) -> bool:
        """Return whether the user counts for the video at *time_ms*, and remember it."""
        day = time_ms // DAY_MS
        if day > self._day:
            if self._day:  # the first day finds it empty
                self._hashes[:] = 0
            self._day = day
        pair = _hash(user_id, video_id, day, is_completed=is_completed)
        place = pair % len(self._hashes)
        if int(self._hashes[place]) == pair:
            return False
        self._hashes[place] = pair
        return True

    def forget(self, user_id: str, video_id: str, time_ms: int) -> None:
        """Forget that the user has counted for the video on the day of *time_ms*."""
        for is_completed in (False, True):
            pair = _hash(user_id, video_id, time_ms // DAY_MS, is_completed=is_completed)
            place = pair % len(self._hashes)
            if int(self._hashes[place]) == pair:
                self._hashes[place] = 0

    def turn_back(self, latest_ms: int) -> None:
        """Forget all pairs if the day that is remembered begins after *latest_ms*."""
        if self._day * DAY_MS > latest_ms:
            self._hashes[:] = 0
            self._day = 0

    def state(self) -> dict[str, np.ndarray]:
        """Return the remembered pairs and their day, for a checkpoint."""
        return {
            "hashes": self._hashes[self._hashes > 0],
            "day": np.array([self._day], np.int64),
        }

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
        hashes = arrays["hashes"]
        self._hashes[:] = 0
        self._hashes[hashes % np.uint64(len(self._hashes))] = hashes
        self._day = int(arrays["day"][0])


def _hash(user_id: str, video_id: str, day: int, *, is_completed: bool) -> int:
    """Return a hash of 64 bits, never 0."""
    named = f"{day}\0{is_completed:d}\0{user_id}\0{video_id}"
    return xxhash.xxh3_64_intdigest(named.encode()) or 1
