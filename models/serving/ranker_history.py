"""Sum up the history of users in a ranker's own embeddings, for all requests of a batch.

The embeddings of completed and of other watches are summed up apart, over the whole history and
over the newest ones. Histories are laid out one after another, oldest first; here they become a
matrix with padding, row 0, in front.
"""

from collections.abc import Sequence
from operator import itemgetter

import numpy as np
from jaxtyping import Bool, Float32, Int64, Integer

from models.features.examples import CompletionRule
from models.history.history import WatchEntry, Window

# Shape legend: B = requests, H = watches of all histories, T = watches of the longest one,
# N = rows of videos, D = width of an embedding, P = pools.

POOLS = (None, 10, 3)
"""Over how many of the newest watches is summed up; None is all."""
STATS_OF = 5
NUM_STATS = 4
_WATCH_MS, _DURATION_MS = (WatchEntry._fields.index(f"{name}_ms") for name in ("watch", "duration"))


def completed_flags(windows: Sequence[Window], completion: CompletionRule) -> Bool[np.ndarray, "H"]:
    """Return for the watches of all windows whether they were completed."""
    entries = [entry for window in windows for entry in window.watches]
    watch_ms_H, duration_ms_H = (
        np.fromiter(map(itemgetter(field), entries), np.int64, len(entries))
        for field in (_WATCH_MS, _DURATION_MS)
    )
    return completion.are_completed(watch_ms_H, duration_ms_H)


def padded(
    row_H: Integer[np.ndarray, "H"],
    is_completed_H: Bool[np.ndarray, "H"],
    size_B: Int64[np.ndarray, "B"],
    *,
    most: int,
) -> tuple[Int64[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]:
    """Return the newest *most* watches of each history, with padding in front."""
    width = int(min(max(size_B.max(initial=0), 1), most))
    request_H = np.repeat(np.arange(len(size_B)), size_B)
    # counted from the end, so that all histories end in the last column
    column_H = np.arange(len(row_H)) - np.repeat(np.cumsum(size_B), size_B) + width
    is_kept_H = column_H >= 0
    places = request_H[is_kept_H], column_H[is_kept_H]
    row_BT = np.zeros((len(size_B), width), np.int64)
    is_completed_BT = np.zeros((len(size_B), width), np.bool_)
    row_BT[places], is_completed_BT[places] = row_H[is_kept_H], is_completed_H[is_kept_H]
    return row_BT, is_completed_BT


def pools(
    history_ND: Float32[np.ndarray, "N D"],
    row_BT: Int64[np.ndarray, "B T"],
    is_completed_BT: Bool[np.ndarray, "B T"],
) -> Float32[np.ndarray, "B P"]:
    """Return the sums over completed and over other watches, by the root of how many there are."""
    is_there_BT = row_BT > 0
    kinds = (is_there_BT & is_completed_BT, is_there_BT & ~is_completed_BT)
    width = row_BT.shape[1]
    weight_BPT = np.zeros((len(row_BT), len(POOLS) * len(kinds), width), np.float32)
    for number, most in enumerate(POOLS):
        first = 0 if most is None else max(width - most, 0)
        for kind, is_of_BT in enumerate(kinds):
            recent_BT = is_of_BT[:, first:]
            root_B1 = np.sqrt(recent_BT.sum(axis=1, keepdims=True) + np.float32(1))
            weight_BPT[:, number * len(kinds) + kind, first:] = recent_BT / root_B1
    pools_BPD: np.ndarray = weight_BPT @ history_ND.take(row_BT, axis=0)
    return pools_BPD.reshape(len(row_BT), -1)


def stats(
    row_BT: Int64[np.ndarray, "B T"], is_completed_BT: Bool[np.ndarray, "B T"]
) -> Float32[np.ndarray, "B S"]:
    """Return how much was completed of all and of the newest, and how much there is."""
    is_there_BT = row_BT > 0
    is_completed_BT = is_there_BT & is_completed_BT
    num_B, completed_B = is_there_BT.sum(axis=1), is_completed_BT.sum(axis=1)
    newest_B, completed_newest_B = (
        of_BT[:, -STATS_OF:].sum(axis=1) for of_BT in (is_there_BT, is_completed_BT)
    )
    columns = (
        (completed_B + 1.5) / (num_B + 5.0),
        np.log1p(completed_B) / 3.0,
        np.log1p(num_B - completed_B) / 3.0,
        (completed_newest_B + 0.3) / (newest_B + 1.0),
    )
    return np.stack(columns, axis=1).astype(np.float32)
