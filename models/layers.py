"""What the towers are made of (torch; training only)."""

import torch
from jaxtyping import Float
from torch import Tensor

# Shape legend: N = rows, B = users, T = watches, D = width of a vector.

_EPSILON = 1e-12


def unit(x_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Return the rows at norm 1; safe for rows near zero."""
    return x_ND / torch.sqrt((x_ND * x_ND).sum(dim=1, keepdim=True) + _EPSILON)


def mean(x_BTD: Float[Tensor, "B T D"], weight_BT: Float[Tensor, "B T"]) -> Float[Tensor, "B D"]:
    """Return the mean over T by these weights; zero where they are all zero."""
    total_BD = (x_BTD * weight_BT.unsqueeze(-1)).sum(dim=1)
    return total_BD / weight_BT.sum(dim=1, keepdim=True).clamp(min=1.0)
