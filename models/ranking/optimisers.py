"""Learn the weights of a ranker: Adam for the dense layers, a decaying Adagrad for the tables.

A row of a table is seen seldom. Under Adam it moves by the learning rate at most each time, which
for most videos is nothing within a day. Adagrad divides by what a row has seen itself: the first
steps are large, and later ones as small as there are many. Its sums decay with each update of the
row, so that a trainer that runs for years does not stop learning.

Source:
    Duchi, Hazan, Singer, Adaptive Subgradient Methods for Online Learning, JMLR 2011
    McMahan et al., Ad Click Prediction: a View from the Trenches, KDD 2013, section 3.1 (learning
    rates by coordinate), https://doi.org/10.1145/2487575.2488200
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

START = 1e-2
"""What the sum of squared gradients of a weight starts from, by the gradient of one example."""
DECAY = 0.9995
"""What is left of a sum at the next update of its row: half after 1,400 updates."""


class RankerOptimiser:
    """Takes the steps of a network and of its tables."""

    def __init__(
        self, network: nn.Module, tables: nn.Module, *, dense_lr: float, table_lr: float
    ) -> None:
        self._dense = torch.optim.Adam(network.parameters(), lr=dense_lr)
        self._parameters: list[Tensor] = list(tables.parameters())
        self._sums = [torch.full_like(weight, START) for weight in self._parameters]
        self._table_lr = table_lr

    def set_dense_lr(self, rate: float) -> None:
        """Set the learning rate of the dense layers."""
        for group in self._dense.param_groups:
            group["lr"] = rate

    def step(self, loss: Tensor, *, num_examples: int) -> None:
        """Take a step down *loss*, a mean over so many examples; none if it is not finite."""
        if not torch.isfinite(loss):
            return
        self._dense.zero_grad()
        for weight in self._parameters:
            weight.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        self._dense.step()
        with torch.no_grad():
            for weight, sums in zip(self._parameters, self._sums, strict=True):
                if weight.grad is not None:
                    self._step_rows(weight, sums, weight.grad.coalesce(), num_examples)

    def forget(self, weight: Tensor, rows: Int64[np.ndarray, "n"]) -> None:
        """Let *rows* of the table *weight* start as new ones do."""
        for one, sums in zip(self._parameters, self._sums, strict=True):
            if one is weight:
                sums[torch.from_numpy(rows)] = START

    def _step_rows(self, weight: Tensor, sums: Tensor, grad: Tensor, num_examples: int) -> None:
        rows, slope = grad.indices()[0], grad.values() * num_examples
        new_sums = sums[rows] * DECAY + slope.square()
        sums[rows] = new_sums
        weight[rows] -= self._table_lr * slope / new_sums.sqrt()

    def grow(self, old: Tensor, new: Tensor) -> None:
        """Take the parameter *new*, which has more rows, for *old*."""
        place = next(i for i, weight in enumerate(self._parameters) if weight is old)
        sums = torch.full_like(new, START)
        sums[: len(old)] = self._sums[place]
        self._parameters[place], self._sums[place] = new, sums

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of everything, for a checkpoint."""
        arrays = {f"sums.{number}": s.numpy().copy() for number, s in enumerate(self._sums)}
        for number, slot in self._dense.state_dict()["state"].items():
            arrays |= {f"dense.{number}.{n}": np.asarray(v).copy() for n, v in slot.items()}
        return arrays

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned.

        Raises:
            KeyError: the sums of a table are missing.
            RuntimeError: an array has another shape.
        """
        for number, sums in enumerate(self._sums):
            sums.copy_(torch.from_numpy(arrays[f"sums.{number}"].copy()))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, array in arrays.items():
            kind, _, rest = name.partition(".")
            if kind == "dense":
                place, _, field = rest.partition(".")
                slots.setdefault(int(place), {})[field] = torch.from_numpy(np.array(array))
        groups: Sequence[object] = self._dense.state_dict()["param_groups"]
        self._dense.load_state_dict({"state": slots, "param_groups": groups})
