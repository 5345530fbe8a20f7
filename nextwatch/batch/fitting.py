"""Fit the two methods of similar videos and their blend, and measure each on what comes later.

The figures are on watches that were left out: everything is fitted on the first four fifths of the
watches of a log, and each later watch of a video new to its user is looked for on the list of the
watch before it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from contract.wire.events import SimilarVideos
from models.serving.items import ItemStore
from nextwatch.batch import similar
from nextwatch.batch.similar import Places
from nextwatch.batch.watched import Watched, WatchedUntil

# Shape legend: N = videos by their numbers, D = width of a vector.

FITTED_SHARE = 0.8
HIT_AT = 20
NUM_PLACES = 50
"""Of each method, before they are blended."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The lists of similar videos, and, where it was asked for, how good each method is."""

    lists: list[SimilarVideos]
    num_videos_of: Mapping[str, int]
    hit_rates: Mapping[str, float] = field(default_factory=dict)
    num_cases: int = 0


def fit(
    watched: Watched,
    items: ItemStore | None,
    *,
    most: int,
    is_vectors_fitted: bool,
    has_figures: bool,
) -> Fitted:
    """Return the blended lists of all *watched*, by co-visitation and, if there are, by vectors.

    The vectors are those of *items*, or, where *is_vectors_fitted*, learned from what was watched.
    """
    hit_rates, num_cases = {}, 0
    if has_figures:
        start_ms = _start_of_test(watched)
        methods = _methods(WatchedUntil(watched, start_ms), items, is_fitted=is_vectors_fitted)
        cases = similar.next_watches(watched, start_ms)
        methods["blend"], _ = similar.blended(list(methods.values()), max(most, HIT_AT))
        methods["most_watched"] = similar.most_watched(WatchedUntil(watched, start_ms), HIT_AT)
        hit_rates = {name: cases.hit_rate(places, HIT_AT) for name, places in methods.items()}
        num_cases = len(cases.next_C)
    methods = _methods(watched, items, is_fitted=is_vectors_fitted)
    places, scores = similar.blended(list(methods.values()), most)
    newest_ms = max(
        (int(block.time_ms_W.max()) for block in watched.blocks() if len(block)), default=0
    )
    lists = []
    if newest_ms:
        lists = list(similar.lists(places, scores, watched.videos.names, updated_at_ms=newest_ms))
    num_videos_of = {name: int((of[:, 0] >= 0).sum()) for name, of in methods.items()}
    return Fitted(lists, num_videos_of, hit_rates, num_cases)


def _methods(watched: Watched, items: ItemStore | None, *, is_fitted: bool) -> dict[str, Places]:
    """Return the lists of each method; all have as many rows as there are videos."""
    if items is not None:
        for video_id in items.popular(len(items)):
            watched.videos.number(video_id)
    methods = {"co_visitation": similar.covisited(watched, NUM_PLACES)}
    vector_ND = None
    if items is not None:
        vector_ND = items.inputs_ND[items.rows(watched.videos.names)]
    elif is_fitted:
        vector_ND = _learned(watched)
    if vector_ND is not None:
        methods["vectors"] = similar.neighbours(vector_ND, NUM_PLACES)
    return methods


def _learned(watched: Watched) -> Float32[np.ndarray, "N D"]:
    """Return item2vec vectors of what was watched (needs torch)."""
    from models.training.item2vec import Item2VecConfig, item2vec  # noqa: PLC0415 - torch

    sequences: list[list[int]] = []
    for block in watched.blocks():
        starts = np.flatnonzero(block.user_W[1:] != block.user_W[:-1]) + 1
        sequences += [one.tolist() for one in np.split(block.video_W + 1, starts) if len(one)]
    found = item2vec(sequences, Item2VecConfig(), num_videos=len(watched.videos), seed=0)
    return found.video_ND[1:]


def _start_of_test(watched: Watched) -> int:
    times_ms = [block.time_ms_W for block in watched.blocks()]
    all_ms = np.concatenate([np.zeros(0, np.int64), *times_ms])
    return int(np.quantile(all_ms, FITTED_SHARE)) if len(all_ms) else 0
