"""Embedding tables with an optimiser that updates only the rows of a step (torch; training).

Row-wise Adagrad keeps one number per row, a sum of mean squared gradients: a row that is seen
often settles, a new one moves fast, and rows that were not looked up stay still bit for bit, which
a dense Adam with its decaying moments would not let them. For a trainer that never ends:

* the sum decays as gradients come in (`AdagradPace.decay`), so that a step never gets too small
  to follow what changes; without it learning hardens within weeks. Gradients far below
  `AdagradPace.start` let nothing decay: a row is drawn as a negative hundreds of times between two
  labels;
* the sum starts above zero (`AdagradPace.start`), so that the first step of a row is as small as
  its gradient is. From zero, each row's first step has the same length whatever its gradient: a
  drawn negative would be moved as far as a label;
* the gradient of a row is clipped, and a row that is not finite is reset (`reset_broken`).

A row is admitted once it has been seen often enough, and until then is what it was in the
beginning; `expire` resets rows that have not been seen for long.

Sources:
    Duchi, Hazan, Singer, Adaptive Subgradient Methods for Online Learning, JMLR 2011
    Covington, Adams, Sargin, Deep Neural Networks for YouTube Recommendations, RecSys 2016,
    section 4.1 (ids out of the vocabulary of the frequent ones are zero vectors)
    Liu et al., Monolith, ORSUM 2022, https://arxiv.org/abs/2209.07663, section 2.2 (a filter by
    occurrences before an id gets a vector, and expiry of ids that are not used any more)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Integer
from torch import Tensor

from models.features.growth import grown

# Shape legend: N = rows of the table, D = width, U = different rows of a lookup,
# n = rows with repeats.

_EPSILON = 1e-6
_TINY = 1e-30
SIGNIFICANT_MOVE = 0.05
"""A row that has moved this far, summed over its steps, is worth another publication."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """The distinct rows of a step, as a leaf of the autograd graph."""

    rows_U: np.ndarray
    vectors_UD: Float[Tensor, "U D"]

    @property
    def is_finite(self) -> bool:
        """Whether the gradient that has reached the rows is finite; True without a gradient."""
        gradient_UD = self.vectors_UD.grad
        return gradient_UD is None or bool(torch.isfinite(gradient_UD).all())


@dataclass(frozen=True, slots=True)
class AdagradPace:
    """How the rows of a table learn.

    Args:
        decay: what is left of the sum of squares of a row after an update by a gradient far
            above *start*; 1 for all.
        start: what the sum starts from, a mean squared gradient.
        max_grad_norm: of one row.
    """

    decay: float = 1.0
    start: float = 0.0
    max_grad_norm: float = float("inf")

    def __post_init__(self) -> None:
        if not 0.0 < self.decay <= 1.0:
            raise ValueError(f"the decay of a sum must be in (0, 1], got {self.decay}")
        if not (self.start >= 0 and self.max_grad_norm > 0):
            raise ValueError(f"start must be at least 0 and max_grad_norm above 0, got {self}")


class EmbeddingTable:
    """An embedding for each row; row 0 is the unknown row and stays zero."""

    def __init__(
        self,
        weight_ND: Float[Tensor, "N D"],
        *,
        lr: float,
        min_seen: int = 0,
        pace: AdagradPace = AdagradPace(),
    ) -> None:
        self.weight_ND = weight_ND
        self.weight_ND[0] = 0.0
        self.moment_N = torch.zeros(len(weight_ND))
        self.seen_N = torch.zeros(len(weight_ND), dtype=torch.int64)
        self.seen_at_ms_N = torch.zeros(len(weight_ND), dtype=torch.int64)
        self.moved_N = torch.zeros(len(weight_ND))
        self.lr = lr
        self.min_seen = min_seen
        self.pace = pace

    @property
    def is_rare_N(self) -> Bool[Tensor, "N"]:
        """Which rows have been seen too rarely to learn."""
        return self.seen_N < self.min_seen

    def see(self, rows_n: Integer[np.ndarray, "n"]) -> None:
        """Count these rows as seen; a row given twice counts twice."""
        np.add.at(self.seen_N.numpy(), rows_n, 1)

    def refresh(self, rows_n: Integer[np.ndarray, "n"], *, now_ms: int) -> None:
        """Note that these rows were seen at *now_ms*, for `expire`."""
        np.maximum.at(self.seen_at_ms_N.numpy(), rows_n, now_ms)

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
        norm_U = gradient_UD.norm(dim=1)
        gradient_UD *= (self.pace.max_grad_norm / (norm_U + _EPSILON)).clamp(max=1.0)[:, None]
        self.accumulate(rows_U, gradient_UD)
        root_U = (self.moment_N[rows_U] + self.pace.start).sqrt()
        step_UD = gradient_UD * (self.lr / (root_U + _EPSILON))[:, None]
        self.weight_ND[rows_U] -= step_UD
        self.moved_N[rows_U] += step_UD.norm(dim=1)
        self.weight_ND[0] = 0.0

    def accumulate(self, rows_U: Integer[Tensor, "U"], gradient_UD: Float[Tensor, "U D"]) -> None:
        """Add mean squared gradients to the decaying sums of *rows_U*, which are distinct."""
        square_U = gradient_UD.square().mean(dim=1)
        lost_U = (1.0 - self.pace.decay) * square_U / (square_U + self.pace.start + _TINY)
        self.moment_N[rows_U] = self.moment_N[rows_U] * (1.0 - lost_U) + square_U

    def take_moved(self) -> Int64[np.ndarray, "n"]:
        """Return the rows that moved by `SIGNIFICANT_MOVE` since they were last returned."""
        rows = np.flatnonzero(self.moved_N.numpy() >= SIGNIFICANT_MOVE)
        self.moved_N[torch.from_numpy(rows)] = 0.0
        return rows

    def reset(self, rows: Integer[np.ndarray, "n"]) -> None:
        """Forget *rows*: zero, never seen, nothing to publish."""
        at = torch.from_numpy(rows.astype(np.int64))
        for array in self.state().values():
            array[at] = 0

    def reset_broken(self, rows: Integer[np.ndarray, "n"] | None = None) -> Int64[np.ndarray, "m"]:
        """Reset those of *rows*, or of all, that are not finite; return them.

        They have moved: whoever has their vectors should get new ones.
        """
        if rows is None:
            rows = np.arange(len(self.weight_ND))
        at = torch.from_numpy(rows.astype(np.int64))
        is_finite = torch.isfinite(self.weight_ND[at]).all(dim=1) & torch.isfinite(
            self.moment_N[at]
        )
        broken: np.ndarray = rows[~is_finite.numpy()].astype(np.int64)
        self.reset(broken)
        self.moved_N[torch.from_numpy(broken)] = SIGNIFICANT_MOVE
        return broken

    def expire(self, *, now_ms: int, after_ms: int) -> Int64[np.ndarray, "n"]:
        """Reset rows last seen *after_ms* before *now_ms* or earlier; return them.

        A row that was seen at an unknown time was seen now.
        """
        seen_N, seen_at_N = self.seen_N.numpy(), self.seen_at_ms_N.numpy()
        seen_at_N[(seen_N > 0) & (seen_at_N == 0)] = now_ms
        rows = np.flatnonzero((seen_N > 0) & (seen_at_N <= now_ms - after_ms))
        self.reset(rows)
        self.moved_N[torch.from_numpy(rows)] = SIGNIFICANT_MOVE
        return rows

    def grow(self, num_rows: int) -> None:
        """Make room for *num_rows* rows, by doubling; new rows are zero."""
        if num_rows <= len(self.weight_ND):
            return
        for name, tensor in self.state().items():
            setattr(self, name, torch.from_numpy(grown(tensor.numpy(), num_rows)))

    def state(self) -> dict[str, Tensor]:
        """Return the table by the names of its attributes; views, not copies."""
        return {
            "weight_ND": self.weight_ND,
            "moment_N": self.moment_N,
            "seen_N": self.seen_N,
            "seen_at_ms_N": self.seen_at_ms_N,
            "moved_N": self.moved_N,
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned; of 0.2, which had no times and no moves, the rest.

        Raises:
            KeyError: a tensor is missing.
        """
        self.weight_ND, self.moment_N = tensors["weight_ND"], tensors["moment_N"]
        self.seen_N = tensors["seen_N"]
        zeros = torch.zeros(len(self.weight_ND))
        self.seen_at_ms_N = tensors.get("seen_at_ms_N", zeros.to(torch.int64))
        self.moved_N = tensors.get("moved_N", zeros)
