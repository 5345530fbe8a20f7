"""Keep watches of videos that are not uploaded yet, until they are.

Events and uploads come by different topics, and a history may be imported before its catalogue. A
watch of an unknown video has entered its user's window like any other; what it teaches is kept
here, up to a bound, and learned when the video is known. Beyond the bound those of the video that
has waited longest are dropped.
"""

from collections import deque
from collections.abc import Iterable
from itertools import islice

import structlog

from models.history.history import WatchEntry

log = structlog.get_logger()

NUM_NAMED = 5
"""So many of the videos are named in a warning."""

Waiting = tuple[str, WatchEntry]
"""A user, and what the window keeps of the watch."""


class WaitingWatches:
    """Watches by video, at most *most*; the video that has waited longest goes first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_video: dict[str, deque[Waiting]] = {}
        self._num_waiting = 0
        self._num_added = self._num_logged = 0
        self.num_dropped = 0

    def __len__(self) -> int:
        return self._num_waiting

    def add(self, user_id: str, entry: WatchEntry) -> None:
        """Keep a watch until its video is uploaded."""
        self._by_video.setdefault(entry.video_id, deque()).append((user_id, entry))
        self._num_waiting += 1
        self._num_added += 1
        while self._num_waiting > self._most:
            self._drop_oldest()

    def take(self, video_id: str) -> list[Waiting]:
        """Return the watches of *video_id*, in the order in which they came; and drop them."""
        taken = list(self._by_video.pop(video_id, ()))
        self._num_waiting -= len(taken)
        return taken

    def forget(self, user_id: str, before_ms: int) -> None:
        """Drop what a user watched up to *before_ms*."""
        kept = [
            (user, entry)
            for user, entry in self.all()
            if user != user_id or entry.event_time_ms > before_ms
        ]
        if len(kept) < self._num_waiting:
            self.load(kept)

    def warn(self) -> None:
        """Log a warning of the waiting watches, if any has come since the last one."""
        if self._by_video and self._num_added > self._num_logged:
            videos = list(islice(self._by_video, NUM_NAMED))
            log.warning("watches_wait_for_uploads", watches=len(self), dropped=self.num_dropped,
                        num_videos=len(self._by_video), videos=videos)  # fmt: skip
        self._num_logged = self._num_added

    def all(self) -> list[Waiting]:
        """Return everything that waits, for a checkpoint."""
        return [one for waiting in self._by_video.values() for one in waiting]

    def load(self, waiting: Iterable[Waiting]) -> None:
        """Replace the waiting watches by those of `all`."""
        self._by_video, self._num_waiting = {}, 0
        for user_id, entry in waiting:
            self.add(user_id, entry)

    def _drop_oldest(self) -> None:
        video_id = next(iter(self._by_video))
        self._by_video[video_id].popleft()
        if not self._by_video[video_id]:
            del self._by_video[video_id]
        self._num_waiting -= 1
        self.num_dropped += 1
