"""List for each video those that are similar to it, by two methods and their blend.

*Co-visitation*: what the same users watch after it. Pairs have a direction, near ones weigh more,
old ones less, and a user counts for a pair once. The count of a pair is divided by the root of the
product of what the two videos have altogether, so that popular videos are not similar to all.

*Vectors*: the nearest videos by the cosine of the vectors that the user tower reads of watched
videos. They know a video by its content before anybody has watched it.

The *blend* adds the reciprocals of the places on both lists (reciprocal rank fusion), which needs
no common scale.

Sources:
    Davidson et al., The YouTube Video Recommendation System, section 3.1 (related videos by
    co-visitation, normalised by the popularity of both), RecSys 2010,
    https://doi.org/10.1145/1864708.1864770
    Cormack, Clarke, Buettcher, Reciprocal Rank Fusion outperforms Condorcet and individual Rank
    Learning Methods, SIGIR 2009, https://doi.org/10.1145/1571941.1572114
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from contract.wire.events import SimilarVideo, SimilarVideos
from models.history.history import DAY_MS
from models.serving import exact
from nextwatch.batch.sparse import SparseSums
from nextwatch.batch.watched import WatchBlock, Watched

# Shape legend: N = videos by their numbers, K = places of a list (padded with -1), P = pairs,
# D = width of a vector, C = cases.

MAX_GAP = 10
"""Pairs are of a watch and the next ten of its user; the n-th of them weighs 1 / n."""
HALF_LIFE_MS = 30 * DAY_MS
SHRINKAGE = 1.0
"""Added to what a video has altogether: a single watch makes nothing similar."""
FUSION = 60.0
_BITS = 32
_VIDEOS_AT_A_TIME = 1_000

Places = Int32[np.ndarray, "N K"]
"""For each video the numbers of the similar ones, the best first, -1 behind the last."""


def covisited(watched: Watched, num_places: int) -> Places:
    """Return what is watched after each video."""
    sums = SparseSums(1)
    landmark_ms = 0
    for block in watched.blocks():
        if len(block):
            landmark_ms = landmark_ms or int(block.time_ms_W.max())
            key_P, weight_P = _pairs(block, landmark_ms)
            sums.add(key_P, weight_P[:, None])
    key_P, weight_P1 = sums.items()
    first_P, second_P = key_P >> _BITS, key_P & ((1 << _BITS) - 1)
    return _best(first_P, second_P, weight_P1[:, 0], len(watched.videos), num_places)


def _pairs(
    block: WatchBlock, landmark_ms: int
) -> tuple[Int64[np.ndarray, "P"], Float64[np.ndarray, "P"]]:
    """Return the pairs of all users, each pair once for a user, at its smallest distance."""
    parts = []
    for gap in range(1, MAX_GAP + 1):
        left, right = slice(None, -gap), slice(gap, None)
        first, second = block.video_W[left], block.video_W[right]
        is_pair = (block.user_W[left] == block.user_W[right]) & (first != second)
        age_ms = np.minimum(block.time_ms_W[right] - landmark_ms, 30 * HALF_LIFE_MS)
        weight = np.exp2(age_ms / HALF_LIFE_MS) / gap
        columns = (block.user_W[right], first << _BITS | second, weight)
        parts.append([column[is_pair] for column in columns])
    user_P, key_P, weight_P = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order_P = np.lexsort((key_P, user_P))  # stable: the smallest distance comes first
    key_P, user_P, weight_P = key_P[order_P], user_P[order_P], weight_P[order_P]
    is_first_P = np.ones(len(key_P), bool)
    is_first_P[1:] = (key_P[1:] != key_P[:-1]) | (user_P[1:] != user_P[:-1])
    return key_P[is_first_P], weight_P[is_first_P]


def _best(
    first_P: Int64[np.ndarray, "P"],
    second_P: Int64[np.ndarray, "P"],
    weight_P: Float64[np.ndarray, "P"],
    num_videos: int,
    num_places: int,
) -> Places:
    before_N = np.bincount(first_P, weight_P, num_videos) + SHRINKAGE
    after_N = np.bincount(second_P, weight_P, num_videos) + SHRINKAGE
    score_P = weight_P / np.sqrt(before_N[first_P] * after_N[second_P])
    order_P = np.lexsort((second_P, -score_P, first_P))
    first_P, second_P = first_P[order_P], second_P[order_P]
    starts_N = np.searchsorted(first_P, np.arange(num_videos))
    place_P = np.arange(len(first_P)) - starts_N[first_P]
    is_kept_P = place_P < num_places
    places = np.full((num_videos, num_places), -1, np.int32)
    places[first_P[is_kept_P], place_P[is_kept_P]] = second_P[is_kept_P]
    return places


def neighbours(vector_ND: Float32[np.ndarray, "N D"], num_places: int) -> Places:
    """Return the nearest videos by cosine; a video with a vector of zeros is on no list."""
    norm_N = np.linalg.norm(vector_ND, axis=1)
    known = np.flatnonzero(norm_N > 0)
    unit_MD = (vector_ND[known] / norm_N[known, None]).astype(np.float32)
    places = np.full((len(vector_ND), num_places), -1, np.int32)
    for start in range(0, len(known), _VIDEOS_AT_A_TIME):
        some = slice(start, start + _VIDEOS_AT_A_TIME)
        found = exact.nearest(unit_MD[some], unit_MD, num_places + 1)
        for video, nearest in zip(known[some].tolist(), found, strict=True):
            others = known[nearest]
            others = others[others != video][:num_places]
            places[video, : len(others)] = others
    return places


def blended(
    methods: Sequence[Places], num_places: int
) -> tuple[Places, Float32[np.ndarray, "N K"]]:
    """Return the blend of several lists of the same videos, and its scores."""
    num_videos = len(methods[0])
    places = np.full((num_videos, num_places), -1, np.int32)
    score_NK = np.zeros((num_videos, num_places), np.float32)
    gain = [1.0 / (FUSION + place) for place in range(1, 1 + max(one.shape[1] for one in methods))]
    for video, lists in enumerate(zip(*(one.tolist() for one in methods), strict=True)):
        total: dict[int, float] = {}
        for listed in lists:
            for place, other in enumerate(listed):
                if other < 0:
                    break
                total[other] = total.get(other, 0.0) + gain[place]
        best = sorted(total.items(), key=lambda item: (-item[1], item[0]))[:num_places]
        for place, (other, score) in enumerate(best):
            places[video, place], score_NK[video, place] = other, score
    return places, score_NK


def lists(
    places: Places,
    score_NK: Float32[np.ndarray, "N K"],
    video_ids: Sequence[str],
    *,
    updated_at_ms: int,
) -> Iterator[SimilarVideos]:
    """Yield the list of each video that has one."""
    for video, (others, scores) in enumerate(zip(places.tolist(), score_NK.tolist(), strict=True)):
        videos = [
            SimilarVideo(video_id=video_ids[other], score=round(score, 6))
            for other, score in zip(others, scores, strict=True)
            if other >= 0
        ]
        if videos:
            yield SimilarVideos(
                video_id=video_ids[video], videos=videos, updated_at_ms=updated_at_ms
            )


@dataclass(frozen=True, slots=True)
class NextWatches:
    """Watches left out of fitting, each with the one that its user watched just before."""

    before_C: Int64[np.ndarray, "C"]
    next_C: Int64[np.ndarray, "C"]

    def hit_rate(self, places: Places, at: int) -> float:
        """Return for what share of the cases the next watch is among the first *at*."""
        if not len(self.next_C):
            return 0.0
        hit_C = (places[self.before_C, :at] == self.next_C[:, None]).any(axis=1)
        return float(hit_C.mean())


def next_watches(watched: Watched, start_ms: int) -> NextWatches:
    """Return the watches from *start_ms* on of videos that their user had not watched before."""
    before, after = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for block in watched.blocks():
        order_W = np.lexsort((block.time_ms_W, block.video_W, block.user_W))
        user_W, video_W = block.user_W[order_W], block.video_W[order_W]
        is_new_W = np.ones(len(block), bool)
        is_new_W[order_W[1:]] = (user_W[1:] != user_W[:-1]) | (video_W[1:] != video_W[:-1])
        is_case = is_new_W[1:] & (block.user_W[1:] == block.user_W[:-1])
        is_case &= block.time_ms_W[1:] >= start_ms
        before.append(block.video_W[:-1][is_case])
        after.append(block.video_W[1:][is_case])
    return NextWatches(np.concatenate(before), np.concatenate(after))


def most_watched(watched: Watched, num_places: int) -> Places:
    """Return for every video the same list: what most users watched; the floor of the figures."""
    count_N = np.zeros(len(watched.videos))
    for block in watched.blocks():
        pairs = np.unique(np.stack([block.user_W, block.video_W]), axis=1)
        count_N += np.bincount(pairs[1], minlength=len(count_N))
    best = np.argsort(-count_N, kind="stable")[:num_places].astype(np.int32)
    return np.tile(best, (len(count_N), 1))
