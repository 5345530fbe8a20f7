"""Lay out what a ranker learns from and scores: requests, and candidates of each."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer

# Shape legend: B = requests, T = watches of the longest history, M = candidates of all requests,
# U = features of a request, F = features of a candidate.

MAX_HISTORY = 50
"""So many of the newest watches a ranker reads, in training and in serving."""


@dataclass(frozen=True, slots=True)
class RankerRequests:
    """Requests: the history, oldest first with padding (row 0) in front, and raw features."""

    history_row_BT: Integer[np.ndarray, "B T"]
    is_completed_BT: Bool[np.ndarray, "B T"]
    context_BU: Float32[np.ndarray, "B U"]


@dataclass(frozen=True, slots=True)
class RankerCandidates:
    """Candidates with their raw features, and the place where each is or will be shown."""

    request_M: Integer[np.ndarray, "M"]
    row_M: Integer[np.ndarray, "M"]
    features_MF: Float32[np.ndarray, "M F"]
    position_M: Float32[np.ndarray, "M"]


@dataclass(frozen=True, slots=True)
class RankerLabels:
    """What came of candidates that were shown; ``watch_s`` is told of those not watched, too."""

    is_watched_M: Bool[np.ndarray, "M"]
    is_completed_M: Bool[np.ndarray, "M"]
    watch_s_M: Float[np.ndarray, "M"]


def padded_histories(
    rows: list[np.ndarray], is_completed: list[np.ndarray], *, most: int
) -> tuple[Integer[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]:
    """Return histories as matrices, the newest *most* watches of each, padding in front."""
    width = max(1, min(most, max((len(one) for one in rows), default=0)))
    row_BT = np.zeros((len(rows), width), np.int64)
    completed_BT = np.zeros((len(rows), width), np.bool_)
    for place, (row_T, completed_T) in enumerate(zip(rows, is_completed, strict=True)):
        if kept := min(len(row_T), width):
            row_BT[place, -kept:] = row_T[-kept:]
            completed_BT[place, -kept:] = completed_T[-kept:]
    return row_BT, completed_BT
