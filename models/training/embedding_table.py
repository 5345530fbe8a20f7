"""Embedding tables with an optimiser that updates only the rows of a step (torch; training).

Row-wise Adagrad keeps one number per row, the sum of its mean squared gradients: a row that
is seen often settles, a new one moves fast, and rows that were not looked up stay still bit
for bit, which a dense Adam with its decaying moments would not let them.

A table may have a filter for rare ids: a row learns nothing before it has been seen often enough,
and until then is what it was in the beginning.

Sources:
    Duchi, Hazan, Singer, Adaptive Subgradient Methods for Online Learning, JMLR 2011
    Covington, Adams, Sargin, Deep Neural Networks for YouTube Recommendations, RecSys 2016,
    section 4.1 (ids out of the vocabulary of the frequent ones are zero vectors)
    Liu et al., Monolith, ORSUM 2022, https://arxiv.org/abs/2209.07663, section 2.2 (a filter by
    occurrences, before an id gets a vector)
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from models.features.growth import grown

# Shape legend: N = rows of the table, D = width, U = different rows of a lookup,
# n = rows with repeats.

_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Lookup:
    """The distinct rows of a step, as a leaf of the autograd graph."""

    rows_U: np.ndarray
    vectors_UD: Float[Tensor, "U D"]


class EmbeddingTable:
    """An embedding for each row; row 0 is the unknown row and stays zero."""

    def __init__(self, weight_ND: Float[Tensor, "N D"], *, lr: float, min_seen: int = 0) -> None:
        self.weight_ND = weight_ND
        self.weight_ND[0] = 0.0
        self.moment_N = torch.zeros(len(weight_ND))
        self.seen_N = torch.zeros(len(weight_ND), dtype=torch.int64)
        self.lr = lr
        self.min_seen = min_seen

    @property
    def is_rare_N(self) -> Bool[Tensor, "N"]:
        """Which rows have been seen too rarely to learn."""
        return self.seen_N < self.min_seen

    def see(self, rows_n: Integer[np.ndarray, "n"]) -> None:
        """Count these rows as seen; a row given twice counts twice."""
        np.add.at(self.seen_N.numpy(), rows_n, 1)

    def lookup(self, rows_U: Integer[np.ndarray, "U"]) -> Lookup:
        """Return the vectors of *rows_U*, which are distinct."""
        vectors_UD = self.weight_ND.index_select(0, torch.from_numpy(rows_U.astype(np.int64)))
        return Lookup(rows_U, vectors_UD.requires_grad_())

    def update(self, lookup: Lookup) -> None:
        """Take one Adagrad step on the rows of *lookup*, by the gradient that has reached it."""
        gradient_UD = lookup.vectors_UD.grad
        if gradient_UD is None:
            return
        rows_U = torch.from_numpy(lookup.rows_U.astype(np.int64))
        if self.min_seen:
            is_known_U = ~self.is_rare_N[rows_U]
            rows_U, gradient_UD = rows_U[is_known_U], gradient_UD[is_known_U]
        self.moment_N[rows_U] += (gradient_UD * gradient_UD).mean(dim=1)
        scale_U = self.lr / (self.moment_N[rows_U].sqrt() + _EPSILON)
        self.weight_ND[rows_U] -= gradient_UD * scale_U[:, None]
        self.weight_ND[0] = 0.0

    def grow(self, num_rows: int) -> None:
        """Make room for *num_rows* rows, by doubling; new rows are zero."""
        self.weight_ND = torch.from_numpy(grown(self.weight_ND.numpy(), num_rows))
        self.moment_N = torch.from_numpy(grown(self.moment_N.numpy(), num_rows))
        self.seen_N = torch.from_numpy(grown(self.seen_N.numpy(), num_rows))
