"""Compute the hierarchical softmax over bands of popularity (torch; training only).

The catalogue in order of popularity is cut into bands of equal size. ``P(video | user)`` is
``P(band | user) * P(video | band, user)``: with as many bands as a band has videos, a label is
told from 2 sqrt(N) others instead of N. A band is a place in the order, not a list of videos, so
the catalogue may grow, and a video that gets popular moves up, without a vector losing its sense.

Not an inner product: the normaliser of a band depends on the user, so only videos of one band
are in the order of their inner products with the user vector. An index serves that order and
knows nothing of bands; `log_probabilities` is the model's own, at the price of the whole
catalogue. Covington et al. report that it did not reach sampled softmax; it is here to be compared.

Sources:
    Morin, Bengio, Hierarchical Probabilistic Neural Network Language Model, AISTATS 2005
    Goodman, Classes for Fast Maximum Entropy Training, ICASSP 2001 (two levels, by frequency)
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Integer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from models.training.config import TowerConfig
from models.training.losses import Loss, sampled_softmax

# Shape legend: B = examples, C = candidate videos, N = videos, K = bands, D = width of a vector.


def bands(count_N: Float[np.ndarray, "N"], *, num_bands: int) -> Int64[np.ndarray, "N"]:
    """Return the band of each video: 0 for the most watched; equal counts in their order."""
    order_N = np.argsort(-count_N, kind="stable")
    band_N = np.empty(len(count_N), np.int64)
    band_N[order_N] = np.arange(len(count_N)) * num_bands // max(len(count_N), 1)
    return band_N


class HierarchicalSoftmax(nn.Module):
    """The upper level: a vector and a bias for each band, all alike at first."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.num_bands = config.num_bands
        self.band_logits = nn.Linear(config.dim, config.num_bands)
        nn.init.zeros_(self.band_logits.weight)
        nn.init.zeros_(self.band_logits.bias)

    def loss(self, user_BD: Float[Tensor, "B D"], band_C: Integer[Tensor, "C"]) -> Loss:
        """Return the loss over candidates in these bands, as in `models.training.losses`."""

        def hierarchical(
            logits_BC: Tensor, label_B: Tensor, log_q_C: Tensor, hit_BC: Tensor
        ) -> Tensor:
            band_B = band_C[label_B]
            elsewhere_BC: Bool[Tensor, "B C"] = band_C[None, :] != band_B[:, None]
            upper = cross_entropy(self.band_logits(user_BD), band_B)
            hit_BC = hit_BC | elsewhere_BC
            return upper + sampled_softmax(logits_BC, label_B, log_q_C, hit_BC)

        return hierarchical

    def log_probabilities(
        self,
        user_BD: Float[Tensor, "B D"],
        logits_BN: Float[Tensor, "B N"],
        band_N: Integer[Tensor, "N"],
    ) -> Float[Tensor, "B N"]:
        """Return log P(video | user) over the whole catalogue; the sum of each row is 1."""
        highest_B1 = logits_BN.amax(dim=1, keepdim=True)
        total_BK = torch.zeros(len(user_BD), self.num_bands).index_add(
            1, band_N, (logits_BN - highest_B1).exp()
        )
        log_z_BK = total_BK.clamp(min=torch.finfo(total_BK.dtype).tiny).log() + highest_B1
        is_empty_K = torch.bincount(band_N, minlength=self.num_bands) == 0
        upper_BK = self.band_logits(user_BD).masked_fill(is_empty_K, -torch.inf)
        return logits_BN + (log_softmax(upper_BK, dim=1) - log_z_BK)[:, band_N]
