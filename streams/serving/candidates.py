"""Find candidates for a batch of users: the nearest videos by the index, and trending ones.

Where batch jobs have published lists, some of the candidates come from them: videos similar to the
newest watches, and, in place of as many trending ones, the hottest videos of the user's country.

When the index does not answer in time, the next best is taken at once and says so: the same
search in memory, exact, for a catalogue small enough; else the last candidates that the
index gave this user; else what is trending. The index is left alone for a while and then
asked again, so that batches do not queue behind it and full service returns by itself.

A bundle with a tree (`models.tdm.index`) needs no index: its candidates come from a beam search
in memory, and an index that is away takes nothing from them.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import structlog
from jaxtyping import Bool, Float32, Int, Int64

from contract.errors import IndexUnavailable
from contract.wire.words import ANN, EXACT, INDEX_AWAY, LAST_GOOD, TDM
from models.history.history import Window
from models.serving import exact
from models.serving.items import ItemStore
from streams.follower.offline_lists import OfflineLists, OfflineRows
from streams.serving.generation import Serving
from streams.serving.seen import longest_ago

log = structlog.get_logger()

# Shape legend: B = users of the batch, C = candidates, D = vector width, N = videos.
REST_S, LONGEST_REST_S = 0.5, 4.0
"""After a failure the index is left alone for this long, doubled with every further one."""
MAX_EXACT_VIDEOS = 250_000
"""Up to here searching in memory costs a user about a millisecond, what the index costs."""
MAX_REMEMBERED_USERS = 5_000
_NO_LISTS = OfflineRows(np.zeros(0, np.int64), np.zeros(0, np.int64))


class NearestIndex(Protocol):
    """Finds the nearest points of a collection."""

    def nearest(
        self, collection: str, vectors_BD: Float32[np.ndarray, "B D"], limit: int
    ) -> list[list[int]]:
        """Return for each vector the ids of the *limit* nearest points, best first."""
        ...


@dataclass(frozen=True, slots=True)
class NearestVideos:
    """The nearest videos of each user as ids of points, the nearest first."""

    ids: Sequence[Sequence[int] | Int64[np.ndarray, "K"]]
    source: str
    degraded: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class UserCandidates:
    """For each user the rows of distinct candidates, and how many of them came from where.

    The first *num_near* came by the vector, the next *num_similar* from lists of similar videos,
    the next *num_hottest* from a list of the hottest ones; the others are trending. *is_again* says
    whose candidates were all watched before, the longest ago first.
    """

    rows: list[Int64[np.ndarray, "C"]] = field(default_factory=list)
    num_near: list[int] = field(default_factory=list)
    num_similar: list[int] = field(default_factory=list)
    num_hottest: list[int] = field(default_factory=list)
    is_again: list[bool] = field(default_factory=list)


class CandidateSource:
    """Finds candidates, by the next best source where the index is unavailable.

    With *is_in_memory* the index is never asked, and answers are not degraded by that: the item
    store has the same vectors. At most *num_ranked* candidates of a user are ranked, up to
    *num_trending* of them trending or hottest; *offline* has the hottest and the similar videos.
    """

    def __init__(
        self,
        index: NearestIndex,
        *,
        num_ranked: int,
        num_trending: int,
        monotonic: Callable[[], float],
        is_in_memory: bool = False,
        max_exact_videos: int = MAX_EXACT_VIDEOS,
        offline: OfflineLists | None = None,
    ) -> None:
        self._index = index
        self._num_ranked = num_ranked
        self._num_trending = num_trending
        self._monotonic = monotonic
        self._is_in_memory = is_in_memory
        self._max_exact_videos = max_exact_videos
        self._offline = offline
        self._rest_s = REST_S
        self._failed_at = self._rests_until = float("-inf")
        self._failure = ""
        self.num_failures = 0
        """Searches that the index did not answer in time."""
        self._last_good: OrderedDict[str, Sequence[int]] = OrderedDict()

    def failure_within(self, seconds: float) -> str:
        """Return why the index failed to answer in the last *seconds*; empty if it did not."""
        return self._failure if self._monotonic() - self._failed_at < seconds else ""

    def near(
        self, serving: Serving, user_ids: Sequence[str], vectors_BD: Float32[np.ndarray, "B D"]
    ) -> NearestVideos | None:
        """Return the videos of the index nearest to each vector, None while it is not asked."""
        is_asked = not self._is_in_memory and serving.tree is None
        if not is_asked or self._monotonic() < self._rests_until:
            return None
        try:
            found = self._index.nearest(serving.collection, vectors_BD, self._num_ranked)
        except IndexUnavailable as error:
            self._failed_at, self._failure = self._monotonic(), str(error)
            self.num_failures += 1
            self._rests_until = self._failed_at + self._rest_s
            log.warning("index_unavailable", reason=self._failure, rest_s=self._rest_s)
            self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)
            return None
        self._rest_s = REST_S
        if not self._is_small(serving):
            self._remember(user_ids, found)
        return NearestVideos(found, ANN)

    def next_best(
        self,
        serving: Serving,
        user_ids: Sequence[str],
        vectors_BD: Float32[np.ndarray, "B D"],
        seen: Sequence[Int[np.ndarray, "S"]],
    ) -> NearestVideos:
        """Return the nearest videos without the index; the item store must not change meanwhile.

        A tree spends nothing on the rows *seen*; elsewhere they fall out later, as `candidates`
        says.
        """
        if serving.tree is not None:
            found = serving.tree.nearest(vectors_BD, serving.items, self._num_ranked, seen)
            return NearestVideos(_points(serving, found), TDM)
        if self._is_in_memory:
            return NearestVideos(self._exact(serving, vectors_BD), EXACT)
        if self._is_small(serving):
            return NearestVideos(self._exact(serving, vectors_BD), EXACT, (INDEX_AWAY,))
        remembered = [self._last_good.get(user_id, ()) for user_id in user_ids]
        return NearestVideos(remembered, LAST_GOOD, (INDEX_AWAY,))

    def candidates(
        self,
        serving: Serving,
        near: NearestVideos,
        seen: Sequence[Int[np.ndarray, "S"]],
        windows: Sequence[Window] = (),
    ) -> UserCandidates:
        """Return the candidates of each user, without the rows *seen* by that user.

        From *windows* follows which of the published lists are a user's. Where nothing is left,
        whatever in the store is unseen; where nothing is, what was seen.
        """
        items = serving.items
        trending = items.rows(items.popular(self._num_trending))
        rows_H = serving.points.rows(np.concatenate([np.array(ids, np.int64) for ids in near.ids]))
        near_rows = np.split(rows_H, np.cumsum([len(ids) for ids in near.ids])[:-1])
        is_unwanted_N = np.zeros(len(items.outputs_ND), np.bool_)
        candidates = UserCandidates()
        lists = self._lists(serving, windows) or [_NO_LISTS] * len(seen)
        for mine, listed, my_seen in zip(near_rows, lists, seen, strict=True):
            near_C, similar, hottest, others = _fresh(
                (mine, listed.similar, listed.hottest, trending), my_seen, is_unwanted_N
            )
            others = others[: max(len(trending) - len(hottest), 0)]
            num_others = len(similar) + len(hottest) + len(others)
            kept = near_C[: max(self._num_ranked - num_others, 0)]
            rows = np.concatenate([kept, similar, hottest, others])
            if not len(rows):
                rows = self._unseen(items, my_seen)
            is_again = not len(rows) and len(my_seen) > 0
            candidates.rows.append(longest_ago(my_seen)[: self._num_ranked] if is_again else rows)
            candidates.num_near.append(len(kept))
            candidates.num_similar.append(len(similar))
            candidates.num_hottest.append(len(hottest))
            candidates.is_again.append(is_again and len(candidates.rows[-1]) > 0)
        return candidates

    def forget(self, user_id: str) -> None:
        """Drop the remembered candidates of an erased user."""
        self._last_good.pop(user_id, None)

    def _lists(self, serving: Serving, windows: Sequence[Window]) -> list[OfflineRows] | None:
        if self._offline is None or not windows:
            return None
        return self._offline.find(windows, serving.points, serving.completion)

    def _unseen(self, items: ItemStore, seen: Int[np.ndarray, "S"]) -> Int[np.ndarray, "C"]:
        popular = items.rows(items.popular(len(seen) + self._num_ranked))
        return popular[~np.isin(popular, seen)][: self._num_ranked]

    def _is_small(self, serving: Serving) -> bool:
        return len(serving.items) <= self._max_exact_videos

    def _remember(self, user_ids: Sequence[str], found: Sequence[Sequence[int]]) -> None:
        for user_id, ids in zip(user_ids, found, strict=True):
            self._last_good[user_id] = ids
            self._last_good.move_to_end(user_id)
        while len(self._last_good) > MAX_REMEMBERED_USERS:
            self._last_good.popitem(last=False)

    def _exact(
        self, serving: Serving, vectors_BD: Float32[np.ndarray, "B D"]
    ) -> list[Int64[np.ndarray, "K"]]:
        best = exact.nearest(vectors_BD, serving.items.outputs_ND, self._num_ranked)
        return _points(serving, best)


def _points(
    serving: Serving, found: Sequence[Int64[np.ndarray, "K"]]
) -> list[Int64[np.ndarray, "K"]]:
    """Return the ids of the points of these rows, without the unknown row."""
    return [serving.points.points(rows[rows > 0]) for rows in found]


def _fresh(
    groups: Sequence[Int[np.ndarray, "C"]],
    seen: Int[np.ndarray, "S"],
    is_unwanted_N: Bool[np.ndarray, "N"],
) -> list[Int[np.ndarray, "R"]]:
    """Return each of *groups* without what is *seen* or in a group before it, in their order.

    *is_unwanted_N* is all false before and after; marking in it is four times as fast as
    comparing lists of rows. The unknown row 0 is never wanted.
    """
    is_unwanted_N[seen] = True
    is_unwanted_N[0] = True
    fresh = []
    for rows in groups:
        fresh.append(kept := rows[~is_unwanted_N[rows]])
        is_unwanted_N[kept] = True
    for kept in fresh:
        is_unwanted_N[kept] = False
    is_unwanted_N[seen] = False
    return fresh
