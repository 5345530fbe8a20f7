"""List the most watched videos, of all, of each country and of each category.

A list has a window, which is the half-life of a watch: in `hottest:24h:all` one of yesterday weighs
half as much as one of now. A user counts for a video once in each interval of that length, so that
nobody lifts a video alone, and a video that few have watched is on no list. Time is event time, up
to the newest watch.

Each watch is added with a weight that grows with its time (forward decay, Cormode et al., ICDE
2009), so the order of the users does not matter.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from contract.wire.decoding import is_id
from contract.wire.events import HottestVideos, HotVideo
from models.history.history import DAY_MS, HOUR_MS
from nextwatch.batch.sparse import SparseSums
from nextwatch.batch.watched import NO_COUNTRY, WatchBlock, Watched

# Shape legend: W = watches of a block, K = videos of a list, L = lists of different half-lives.

HALF_LIVES_MS: Mapping[str, int] = {"1h": HOUR_MS, "24h": DAY_MS, "7d": 7 * DAY_MS}
MOST = 200
"""As many as a record of `hottest-videos` may have."""
_ALL = 0
_BITS = 32
_MAX_HALF_LIVES = 500.0  # then the weights are scaled down: above 2^1023 there is no number
_LEAST = 1e-3


@dataclass(frozen=True, slots=True)
class HottestLists:
    """The lists, and what was counted for them."""

    lists: list[HottestVideos]
    num_watches: int
    num_unnamed: int
    """Lists left out: their country or category makes no name that a key may have."""


def hottest(
    watched: Watched, category_of: Mapping[str, str], *, most: int, min_users: int
) -> HottestLists:
    """Return the lists with up to *most* videos, each counted for *min_users* users at least."""
    half_life_ms_L = np.array(list(HALF_LIVES_MS.values()), np.int64)
    sums = SparseSums(1 + len(half_life_ms_L))
    landmark_ms = newest_ms = num_watches = 0
    for block in watched.blocks():
        if not len(block):
            continue
        newest_ms = max(newest_ms, int(block.time_ms_W.max()))
        if newest_ms - landmark_ms > _MAX_HALF_LIVES * min(HALF_LIVES_MS.values()):
            sums.scale(np.append(1.0, np.exp2((landmark_ms - newest_ms) / half_life_ms_L)))
            landmark_ms = newest_ms
        num_watches += len(block)
        age_WL = (block.time_ms_W[:, None] - landmark_ms) / half_life_ms_L
        weight_WL = np.exp2(age_WL)
        for number, half_life_ms in enumerate(half_life_ms_L.tolist()):
            weight_WL[~_newest_in_interval(block, half_life_ms), number] = 0.0
        is_first_W = _newest_in_interval(block, 0)[:, None].astype(np.float64)
        columns = np.concatenate([is_first_W, weight_WL], axis=1)
        sums.add(_ALL << _BITS | block.video_W, columns)
        here = block.country_W != NO_COUNTRY
        sums.add(block.country_W[here] << _BITS | block.video_W[here], columns[here])
    decay_L = np.exp2((landmark_ms - newest_ms) / half_life_ms_L)
    made = list(_lists(watched, sums, category_of, decay_L, most=most, min_users=min_users))
    named = [
        HottestVideos(list_name=name, videos=videos, updated_at_ms=newest_ms)
        for name, videos in made
        if is_id(name)
    ]
    return HottestLists(named, num_watches, len(made) - len(named))


def _newest_in_interval(block: WatchBlock, interval_ms: int) -> Bool[np.ndarray, "W"]:
    """Return which watches are the newest of their user, video and interval; 0 for one interval."""
    interval_W = block.time_ms_W // interval_ms if interval_ms else np.zeros_like(block.time_ms_W)
    order_W = np.lexsort((block.time_ms_W, interval_W, block.video_W, block.user_W))
    is_last_W = np.ones(len(block), bool)
    is_last_W[:-1] = np.logical_or.reduce(
        [
            column[order_W][1:] != column[order_W][:-1]
            for column in (interval_W, block.video_W, block.user_W)
        ]
    )
    is_newest_W = np.zeros(len(block), bool)
    is_newest_W[order_W] = is_last_W
    return is_newest_W


def _lists(
    watched: Watched,
    sums: SparseSums,
    category_of: Mapping[str, str],
    decay_L: Float64[np.ndarray, "L"],
    *,
    most: int,
    min_users: int,
) -> Iterator[tuple[str, list[HotVideo]]]:
    key_K, sums_KC = sums.items()
    is_enough_K = sums_KC[:, 0] >= min_users
    key_K, count_KL = key_K[is_enough_K], sums_KC[is_enough_K, 1:] * decay_L
    group_K, video_K = key_K >> _BITS, key_K & ((1 << _BITS) - 1)
    names, countries = watched.videos.names, watched.countries.names
    groups: list[tuple[str, Int64[np.ndarray, K]]] = []
    for group in np.unique(group_K).tolist():
        of_group = np.flatnonzero(group_K == group)
        groups.append((f"country={countries[group]}" if group else "all", of_group))
        if group == _ALL:
            categories: dict[str, list[int]] = {}
            for place in of_group.tolist():
                category = category_of.get(names[video_K[place]])
                if category:
                    categories.setdefault(category, []).append(place)
            groups += [
                (f"category={category}", np.array(places))
                for category, places in sorted(categories.items())
            ]
    for window, count_K in zip(HALF_LIVES_MS, count_KL.T, strict=True):
        for name, places in groups:
            best = places[np.lexsort((video_K[places], -count_K[places]))][:most]
            videos = [
                HotVideo(
                    video_id=names[video_K[place]], num_watches=round(float(count_K[place]), 3)
                )
                for place in best.tolist()
                if count_K[place] >= _LEAST
            ]
            if videos:
                yield f"hottest:{window}:{name}", videos
