"""What is watched most just now, by this worker's own events: all there is without a bundle.

Counts decay by the number of watches, not by the clock: the weight of a watch doubles every
`HALF_LIFE` watches, which ages all earlier ones at no cost.
"""

from collections.abc import Collection
from typing import NamedTuple

HALF_LIFE = 5_000
MAX_VIDEOS = 10_000
_LARGEST = 1e12


class Trend(NamedTuple):
    """One video with its decayed watch count and its mean watch time."""

    video_id: str
    num_watches: float
    mean_watch_ms: float


class Trending:
    """Decayed watch counts of a bounded number of videos."""

    def __init__(self, taken_down: Collection[str] = ()) -> None:
        self._taken_down = taken_down
        self._weight = 1.0
        self._growth = 2.0 ** (1 / HALF_LIFE)
        self._totals: dict[str, tuple[float, float]] = {}

    def note(self, video_id: str, watch_ms: int) -> None:
        """Count one watch."""
        num_watches, total_ms = self._totals.get(video_id, (0.0, 0.0))
        weight = self._weight
        self._totals[video_id] = num_watches + weight, total_ms + weight * watch_ms
        self._weight *= self._growth
        if len(self._totals) > MAX_VIDEOS or self._weight > _LARGEST:
            self._shrink()

    def top(self, most: int, *, without: Collection[str] = ()) -> list[Trend]:
        """Return up to *most* videos, the most watched first, that are up and not in *without*."""
        chosen: list[Trend] = []
        for video_id, (num_watches, total_ms) in self._ordered():
            if len(chosen) >= most:
                break
            if video_id not in without and video_id not in self._taken_down:
                mean_ms = total_ms / num_watches
                chosen.append(Trend(video_id, num_watches / self._weight, mean_ms))
        return chosen

    def _ordered(self) -> list[tuple[str, tuple[float, float]]]:
        return sorted(self._totals.items(), key=lambda item: (-item[1][0], item[0]))

    def _shrink(self) -> None:
        """Keep the more watched half, with weights that start from 1 again."""
        kept = self._ordered()[: MAX_VIDEOS // 2]
        self._totals = {
            video_id: (num_watches / self._weight, total_ms / self._weight)
            for video_id, (num_watches, total_ms) in kept
        }
        self._weight = 1.0
