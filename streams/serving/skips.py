"""Lower the scores of candidates that are like what the user has just skipped.

A skip is no input of the user tower (`models.features.features`), so it draws nobody towards it.
Here it pushes away: candidates lose score by how much they are like the skipped videos, the more of
the newest watches were skips the more. It is measured in standard deviations of the user's scores,
so that it means the same for every ranker, before training and after.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int64

from models.features.examples import CompletionRule
from models.history.history import Window
from models.serving.items import ItemStore
from streams.serving.requests import Request

# Shape legend: B = users, C = candidates, U = users who have skipped, D = width of a vector.

NUM_RECENT = 5
MAX_AGE_MS = 30 * 60_000
"""A skip that lies further back than this, from the answer, pushes nothing away."""
_EPSILON = 1e-9


def push_away_skipped(
    score_BC: Float[np.ndarray, "B C"],
    rows_BC: Int64[np.ndarray, "B C"],
    requests: Sequence[Request],
    items: ItemStore,
    completion: CompletionRule,
    *,
    weight: float,
) -> Float[np.ndarray, "B C"]:
    """Return the scores, lowered where a candidate is like what its user has just skipped."""
    skipped = [_skipped(request, completion) for request in requests] if weight else []
    users = [user for user, video_ids in enumerate(skipped) if video_ids]
    if not users:
        return score_BC
    away_UD = np.stack(
        [_mean_direction(skipped[user], requests[user].window, items) for user in users]
    )
    candidate_UCD = items.inputs_ND.take(rows_BC[users], axis=0)
    norm_UC = np.sqrt(np.einsum("ucd,ucd->uc", candidate_UCD, candidate_UCD)) + _EPSILON
    likeness_UC = np.maximum((candidate_UCD @ away_UD[:, :, None])[:, :, 0] / norm_UC, 0.0)
    score_BC = score_BC.copy()
    for user, likeness_C in zip(users, likeness_UC, strict=True):
        is_finite_C = np.isfinite(score_BC[user])
        spread = score_BC[user][is_finite_C].std() if is_finite_C.any() else 0.0
        score_BC[user] -= weight * spread * likeness_C
    return score_BC


def _skipped(request: Request, completion: CompletionRule) -> list[str]:
    """Return which of the newest watches were skips and not long ago."""
    return [
        watch.video_id
        for watch in request.window.watches[-NUM_RECENT:]
        if completion.is_skipped(watch.watch_ms, watch.duration_ms)
        and request.now_ms - watch.event_time_ms <= MAX_AGE_MS
    ]


def _mean_direction(
    video_ids: Sequence[str], window: Window, items: ItemStore
) -> Float32[np.ndarray, "D"]:
    """Return the sum of the unit vectors of *video_ids*, by the number of the newest watches."""
    vectors_SD = items.inputs_ND[items.rows(video_ids)]
    norm_S1 = np.linalg.norm(vectors_SD, axis=1, keepdims=True) + _EPSILON
    total_D: np.ndarray = (vectors_SD / norm_S1).sum(axis=0)
    return total_D / np.float32(len(window.watches[-NUM_RECENT:]))
