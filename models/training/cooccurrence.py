"""Factorise co-occurrence counts into first embeddings of videos (torch; training only).

Half a million steps of a model that starts from random vectors mostly find out which videos
are watched together, and that can be counted (``python -m benchmarks.ablations item2vec``
compares the starts).

Counts within a window, each divided by the distance, become pointwise mutual information
where it is positive, with the smoothing of item2vec's negative sampling; its leading
eigenvectors are the embeddings.

Source:
    Levy, Goldberg, Neural Word Embedding as Implicit Matrix Factorization, NIPS 2014, section 5
    Levy, Goldberg, Dagan, Improving Distributional Similarity with Lessons Learned from Word
    Embeddings, TACL 2015, section 3, https://doi.org/10.1162/tacl_a_00134
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Integer
from torch import Tensor

# Shape legend: _ = watches of one history, N = videos, D = width of a vector, P = pairs.

WINDOW = 10
_SMOOTHING = 0.75
_MORE_DIMS = 16


def embeddings(
    histories: Sequence[Integer[np.ndarray, "_"]], num_videos: int, dim: int, *, seed: int
) -> Float32[np.ndarray, "N D"]:
    """Return a vector of norm 1 for each of rows 1 to *num_videos*; zero if watched beside nothing.

    *histories* are rows of videos, each user's oldest first.
    """
    pmi_NN = _positive_pmi(*_counts(histories, num_videos + 1), num_videos + 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wanted = min(dim + _MORE_DIMS, num_videos + 1)
        left_ND, strength_D, _ = torch.svd_lowrank(pmi_NN, q=wanted, niter=3)
    scaled_ND = left_ND[:, :dim] * strength_D[:dim].sqrt()
    norm_N1 = scaled_ND.norm(dim=1, keepdim=True)
    unit_ND = torch.where(norm_N1 > 1e-4, scaled_ND / norm_N1.clamp(min=1e-4), 0.0)  # noqa: PLR2004
    padded_ND = torch.nn.functional.pad(unit_ND, (0, dim - unit_ND.shape[1]))
    first_ND: np.ndarray = padded_ND[1:].numpy()
    return first_ND


def _counts(
    histories: Sequence[np.ndarray], size: int
) -> tuple[Integer[np.ndarray, "P"], Float32[np.ndarray, "P"]]:
    """Return pairs of rows as ``row * size + other`` and how near to each other they stood."""
    lengths = [len(history) for history in histories]
    rows = np.concatenate([np.zeros(0, np.int64), *histories]).astype(np.int64)
    user = np.repeat(np.arange(len(histories)), lengths)
    keys, weights = [], []
    for distance in range(1, WINDOW + 1):
        is_same = user[distance:] == user[:-distance]
        one, other = rows[:-distance][is_same], rows[distance:][is_same]
        keys += [one * size + other, other * size + one]
        weights += [np.full(2 * len(one), 1.0 / distance)]
    pairs_P, place = np.unique(np.concatenate(keys), return_inverse=True)
    count_P = np.bincount(place, weights=np.concatenate(weights), minlength=len(pairs_P))
    return pairs_P, count_P.astype(np.float32)


def _positive_pmi(pairs_P: np.ndarray, count_P: np.ndarray, size: int) -> Tensor:
    """Return the symmetric matrix of positive pointwise mutual information, sparse."""
    one_P, other_P = np.divmod(pairs_P, size)
    total_N = np.bincount(one_P, weights=count_P, minlength=size)
    smooth_N = total_N**_SMOOTHING / max((total_N**_SMOOTHING).sum(), 1.0)
    by_other_P = np.log(count_P / (total_N[one_P] * smooth_N[other_P]))
    by_one_P = np.log(count_P / (total_N[other_P] * smooth_N[one_P]))
    pmi_P = (np.maximum(by_other_P, 0.0) + np.maximum(by_one_P, 0.0)) / 2
    return torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([one_P, other_P])),
        torch.from_numpy(pmi_P.astype(np.float32)),
        (size, size),
        check_invariants=False,
    ).coalesce()
