"""Count what is watched most by this worker's own events, for answers without a bundle.

People are counted, not plays: a watch counts when it enters its user's window, and only if the
video was not there before. So neither a repeated delivery nor a loop makes a video popular.

Counts decay by the number of watches, not by the clock: the weight of a watch doubles every
`HALF_LIFE` watches, which ages all earlier ones at no cost.
"""

from collections.abc import Collection, Sequence
from threading import Lock
from typing import NamedTuple

from contract.wire.events import RecommendedVideo
from contract.wire.words import TRENDING
from models.history.history import WatchEntry, Window
from streams.serving.requests import Request
from streams.serving.shown import MOST_PLACES, order_without_shown

HALF_LIFE = 5_000
MAX_VIDEOS = 10_000
_LARGEST = 1e12


class Trend(NamedTuple):
    """One video with its decayed watch count and its mean watch time."""

    video_id: str
    num_watches: float
    mean_watch_ms: float


class Trending:
    """Decayed watch counts of a bounded number of videos; one thread counts, another one reads."""

    def __init__(self, taken_down: Collection[str] = ()) -> None:
        self._taken_down = taken_down
        self._weight = 1.0
        self._growth = 2.0 ** (1 / HALF_LIFE)
        self._totals: dict[str, tuple[float, float]] = {}
        self._lock = Lock()

    def note(self, before: Window, watches: Sequence[WatchEntry]) -> None:
        """Count *watches* that have just entered the window that was *before*, each video once.

        A video that was in it has counted, and a play of 0 ms is none.
        """
        known = set(before.video_ids)
        for watch in watches:
            if watch.watch_ms > 0 and watch.video_id not in known:
                known.add(watch.video_id)
                with self._lock:
                    self._count(watch.video_id, watch.watch_ms)

    def _count(self, video_id: str, watch_ms: int) -> None:
        num_watches, total_ms = self._totals.get(video_id, (0.0, 0.0))
        weight = self._weight
        self._totals[video_id] = num_watches + weight, total_ms + weight * watch_ms
        self._weight *= self._growth
        if len(self._totals) > MAX_VIDEOS or self._weight > _LARGEST:
            self._shrink()

    def top(self, most: int) -> list[Trend]:
        """Return up to *most* videos that are up, the most watched first."""
        with self._lock:
            ordered, weight = self._ordered(), self._weight
        chosen: list[Trend] = []
        for video_id, (num_watches, total_ms) in ordered:
            if len(chosen) >= most:
                break
            if video_id not in self._taken_down:
                chosen.append(Trend(video_id, num_watches / weight, total_ms / num_watches))
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


def trending_lists(
    requests: Sequence[Request], trending: Trending, *, usual: int
) -> list[list[RecommendedVideo]]:
    """Return the most watched videos for each user, those shown in vain further down."""
    lengths = [request.length(usual) for request in requests]
    longest = max(len(request.window.watches) for request in requests)
    trends = trending.top(max(lengths) + longest + round(MOST_PLACES))
    return [
        [_recommended(trend) for trend in _unseen(trends, request)[:length]]
        for request, length in zip(requests, lengths, strict=True)
    ]


def _unseen(trends: Sequence[Trend], request: Request) -> list[Trend]:
    seen = set(request.window.video_ids)
    unseen = [trend for trend in trends if trend.video_id not in seen]
    return [
        unseen[place] for place in order_without_shown([one.video_id for one in unseen], request)
    ]


def _recommended(trend: Trend) -> RecommendedVideo:
    return RecommendedVideo(
        video_id=trend.video_id,
        expected_watch_ms=round(trend.mean_watch_ms, 1),
        score=round(trend.num_watches, 6),
        source=TRENDING,
    )
