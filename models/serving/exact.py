"""Find the nearest videos exactly, in memory, for many users at once.

Multiplying all vectors is cheap, choosing the best few of a hundred thousand scores is not.
So a sample of the scores tells what the k-th best must be worth about, and only what beats
that is looked at closely (measured for 100,000 videos of 64 dimensions, k = 200: 0.4 ms a
user, 0.8 with a partition of all scores). A few users at a time, so that the scores stay in
the processor's cache.
"""

import numpy as np
from jaxtyping import Float32, Int64

# Shape legend: B = users, N = videos, D = width of a vector, K = how many are wanted.

_USERS_AT_A_TIME = 16
_SAMPLE = 8_192
_MARGIN = 2.0
"""How many more than k should pass the threshold, so that fewer than k hardly ever do."""


def nearest(
    vectors_BD: Float32[np.ndarray, "B D"], outputs_ND: Float32[np.ndarray, "N D"], k: int
) -> list[Int64[np.ndarray, "K"]]:
    """Return for each vector the rows of the *k* largest inner products, best first."""
    k = min(k, len(outputs_ND))
    found: list[Int64[np.ndarray, K]] = []
    if k < 1:
        return [np.zeros(0, np.int64) for _ in vectors_BD]
    stride = max(1, len(outputs_ND) // _SAMPLE)
    for start in range(0, len(vectors_BD), _USERS_AT_A_TIME):
        scores_UN = vectors_BD[start : start + _USERS_AT_A_TIME] @ outputs_ND.T
        sample_US = scores_UN[:, ::stride]
        num_above = min(int(_MARGIN * k / stride) + 1, sample_US.shape[1])
        threshold_U = np.partition(sample_US, -num_above, axis=1)[:, -num_above]
        for scores_N, threshold in zip(scores_UN, threshold_U, strict=True):
            rows = np.flatnonzero(scores_N >= threshold)
            found.append(_best(scores_N, rows if len(rows) >= k else np.arange(len(scores_N)), k))
    return found


def _best(
    scores_N: Float32[np.ndarray, "N"], rows: Int64[np.ndarray, "M"], k: int
) -> Int64[np.ndarray, "K"]:
    mine_M = scores_N[rows]
    best_K = np.argpartition(-mine_M, k - 1)[:k]
    order_K = np.argsort(-mine_M[best_K], kind="stable")
    chosen: np.ndarray = rows[best_K[order_K]]
    return chosen
