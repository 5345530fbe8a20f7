"""Keep the lists that batch jobs publish, as candidates: similar videos and the hottest ones.

`similar-videos` and `hottest-videos` are read by `streams.follower.follower`. A list is kept as the
points of its first videos, eight bytes each, and the number of lists is bounded: of a larger topic
the lists that changed last stay. While both topics are empty, a batch is not looked at.
"""

from collections.abc import Iterable, Sequence
from itertools import islice, zip_longest
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from contract.points import POINT_BYTES, point_id
from contract.wire.events import HottestVideos, SimilarVideos
from models.features.examples import CompletionRule
from models.history.history import Window
from streams.serving.point_rows import PointRows

# Shape legend: R = rows of the item store, 0 for videos that it does not have.

MAX_SIMILAR_LISTS = 200_000
MAX_SIMILAR_IN_LIST = 20
"""So the lists of similar videos take 80 MB at most (measured: 390 bytes for each)."""
MAX_HOTTEST_LISTS = 2_000
MAX_HOTTEST_IN_LIST = 100
NUM_WATCHED = 5
"""Of so many of the newest watches that were no skips, similar videos are taken."""
HOTTEST_OF_ALL = "hottest:24h:all"
HOTTEST_OF_COUNTRY = "hottest:24h:country={}"


class OfflineRows(NamedTuple):
    """The candidates of one user from the lists, each video once in each of the two."""

    similar: Int64[np.ndarray, "R"]
    hottest: Int64[np.ndarray, "R"]


class OfflineLists:
    """The lists by video and by name; one thread puts lists, others read them.

    Of similar videos a user has up to *num_similar* candidates, of hottest up to *num_hottest*.
    """

    def __init__(self, *, num_similar: int, num_hottest: int) -> None:
        self._num_similar = num_similar
        self._num_hottest = num_hottest
        self._similar: dict[str, bytes] = {}
        self._hottest: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._similar) + len(self._hottest)

    def put_similar(self, given: SimilarVideos) -> None:
        """Replace the list of one video."""
        video_ids = [one.video_id for one in given.videos[:MAX_SIMILAR_IN_LIST]]
        _put(self._similar, given.video_id, video_ids, most=MAX_SIMILAR_LISTS)

    def put_hottest(self, given: HottestVideos) -> None:
        """Replace one list of the hottest videos."""
        video_ids = [one.video_id for one in given.videos[:MAX_HOTTEST_IN_LIST]]
        _put(self._hottest, given.list_name, video_ids, most=MAX_HOTTEST_LISTS)

    def remove_similar(self, video_id: str) -> None:
        """Remove the list of one video; an unknown one is ignored."""
        self._similar.pop(video_id, None)

    def remove_hottest(self, list_name: str) -> None:
        """Remove one list of the hottest videos; an unknown one is ignored."""
        self._hottest.pop(list_name, None)

    def find(
        self, windows: Sequence[Window], points: PointRows, completion: CompletionRule
    ) -> list[OfflineRows] | None:
        """Return the candidates of each user; None if there are no lists at all."""
        if not len(self):
            return None
        seen = [set(map(_bytes_of, window.video_ids)) for window in windows]
        similar = [
            self._similar_points(*user, completion) for user in zip(windows, seen, strict=True)
        ]
        hottest = [self._hottest_points(*user) for user in zip(windows, seen, strict=True)]
        found = points.rows(np.frombuffer(b"".join([*similar, *hottest]), "<i8"))
        ends = np.cumsum([len(one) // POINT_BYTES for one in (*similar, *hottest)])[:-1]
        rows = np.split(found, ends)
        return [
            OfflineRows(*pair)
            for pair in zip(rows[: len(windows)], rows[len(windows) :], strict=True)
        ]

    def _similar_points(
        self, window: Window, seen: set[bytes], completion: CompletionRule
    ) -> bytes:
        """Return what is similar to the newest watches, of each the best first, in turns."""
        if not self._similar or not self._num_similar:
            return b""
        watched = [
            watch.video_id
            for watch in window.watches[: -NUM_WATCHED - 1 : -1]
            if not completion.is_skipped(watch.watch_ms, watch.duration_ms)
        ]
        lists = [found for video_id in watched if (found := self._similar.get(video_id))]
        in_turns = zip_longest(*map(_split, lists), fillvalue=b"")
        distinct = dict.fromkeys(point for turn in in_turns for point in turn)
        return _first_unseen(distinct, seen, self._num_similar)

    def _hottest_points(self, window: Window, seen: set[bytes]) -> bytes:
        if not self._hottest or not self._num_hottest:
            return b""
        country = window.context.country if window.context else ""
        found = self._hottest.get(HOTTEST_OF_COUNTRY.format(country)) if country else None
        found = found or self._hottest.get(HOTTEST_OF_ALL, b"")
        return _first_unseen(_split(found), seen, self._num_hottest)


def _put(lists: dict[str, bytes], key: str, video_ids: Sequence[str], *, most: int) -> None:
    lists.pop(key, None)
    lists[key] = b"".join(dict.fromkeys(map(_bytes_of, video_ids)))
    if len(lists) > most:
        del lists[next(iter(lists))]


def _bytes_of(video_id: str) -> bytes:
    return point_id(video_id).to_bytes(POINT_BYTES, "little")


def _first_unseen(points: Iterable[bytes], seen: set[bytes], most: int) -> bytes:
    return b"".join(islice((point for point in points if point not in seen), most))


def _split(points: bytes) -> list[bytes]:
    return [points[at : at + POINT_BYTES] for at in range(0, len(points), POINT_BYTES)]
