"""Convert maximum inner product search to nearest neighbours of unit vectors (SIMPLE-LSH).

Graphs of neighbours lose half of their recall on vectors of unequal norms. One more component
makes all norms one and leaves every inner product as it was, up to a factor that is the same
for all items. So the order of the exact search does not change, and an index of unit vectors
can serve a model whose scores are plain inner products, biases of the items included.

The factor depends on the longest item. It is fixed for a generation, with headroom for what
vectors grow to meanwhile, since items of one factor and items of another cannot be compared.
A vector that outgrows it is shortened to it: a served order that is a little wrong for one
video is better than an index that refuses it.

What is added meets only zeros of the users, so its direction is free. In the paper it is one
component, which brings all short items together at one pole, and a graph finds little there.
With *is_spread* it points where the item points: neighbours are then those of like direction.
Measured with HNSW (m = 16, ef = 800; ``python -m benchmarks.simple_lsh``), recall of the exact 100
best: on 20,000 normal vectors of 64 components with log-normal norms .22 with one component,
.97 spread; on factors of iALS over KuaiRand .68 and .954. Vectors that hardly differ in norm, as
those of `models.serving.live_signals`, need none of it: .999 with one component at ef = 200.

Source:
    Neyshabur and Srebro, On Symmetric and Asymmetric LSHs for Inner Product Search, ICML 2015,
    https://arxiv.org/abs/1410.5518
"""

import numpy as np
from jaxtyping import Float, Float32

# Shape legend: N = items, B = users, D = width of a vector, E = width when converted.

HEADROOM = 1.25
"""How much longer than the longest item of today an item of the same generation may become."""


def max_norm_of(item_ND: Float[np.ndarray, "N D"], *, headroom: float = HEADROOM) -> float:
    """Return the norm to convert items like these with; 1 when there are none or all are zero.

    Raises:
        ValueError: *headroom* is below 1, so that some of the items would be shortened at once.
    """
    if not headroom >= 1.0:
        raise ValueError(f"headroom must be at least 1, got {headroom}")
    longest = float(np.linalg.norm(item_ND, axis=1).max(initial=0.0))
    return longest * headroom or 1.0


def convert_items(
    item_ND: Float[np.ndarray, "N D"], *, max_norm: float, is_spread: bool = False
) -> Float32[np.ndarray, "N E"]:
    """Return (v, sqrt(m^2 - |v|^2)) / m for each item v, of unit norm, with m = *max_norm*.

    With *is_spread* the second part is sqrt(m^2 - |v|^2) v / |v|, as wide as v itself. An item
    longer than m is shortened to m.

    Raises:
        ValueError: *max_norm* is not above 0.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be above 0, got {max_norm}")
    norm_N1 = np.linalg.norm(np.asarray(item_ND, np.float64), axis=1, keepdims=True)
    direction_ND = item_ND / np.where(norm_N1 > 0, norm_N1, 1.0)
    direction_ND[norm_N1[:, 0] == 0, :1] = 1.0  # what has no direction still gets unit norm
    share_N1 = np.minimum(norm_N1 / max_norm, 1.0)
    rest_N1 = np.sqrt(1.0 - share_N1**2)
    added = rest_N1 * direction_ND if is_spread else rest_N1
    return np.concatenate([share_N1 * direction_ND, added], axis=1).astype(np.float32)


def convert_users(
    user_BD: Float[np.ndarray, "B D"], *, is_spread: bool = False
) -> Float32[np.ndarray, "B E"]:
    """Return (u, 0) / |u| for each user u, of unit norm; what is zero stays zero.

    The inner product with a converted item is the plain one divided by m * |u|.
    """
    norm_B1 = np.linalg.norm(np.asarray(user_BD, np.float64), axis=1, keepdims=True)
    unit_BD = user_BD / np.where(norm_B1 > 0, norm_B1, 1.0)
    num_added = user_BD.shape[1] if is_spread else 1
    return np.pad(unit_BD, ((0, 0), (0, num_added))).astype(np.float32)
