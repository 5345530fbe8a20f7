"""Share the gradient of one step among several processes (torch; training only).

Every process has the same weights, tables and batch. Each computes the loss of its part of the
batch, gradients are summed, and all take the same step, so that they stay the same bit for bit.
That is what `torch.nn.parallel.DistributedDataParallel` does for dense parameters; its hooks belong
to the parameters of one module, and the rows that a step looks up are none. Which rows a step
looks up follows from the whole batch, so that their gradients have one shape in all processes and
are summed with the dense ones: U x D numbers for U rows, and no process averages tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed
from torch import Tensor

from models.training.replay import TrainingBatch


@dataclass(frozen=True, slots=True)
class DataParallel:
    """This process is *rank* of *size*; alone by default."""

    rank: int = 0
    size: int = 1

    def part(self, batch: TrainingBatch) -> tuple[TrainingBatch, float]:
        """Return the examples of *batch* that this process computes, and their share of it.

        A process that would have none computes one, with a share of 0.
        """
        num_examples = len(batch.label_rows_B)
        if self.size == 1 or not num_examples:
            return batch, 1.0
        places = list(range(self.rank, num_examples, self.size))
        part = replace(
            batch,
            users=batch.users.at(places or [0]),
            label_rows_B=batch.label_rows_B[places or [0]],
            label_signals_BK=batch.label_signals_BK[places or [0]],
        )
        return part, len(places) / num_examples

    def backward(self, loss: Tensor, share: float, leaves: Sequence[Tensor]) -> Tensor:
        """Set the gradients of *leaves* to those of the whole batch, and return its loss.

        *loss* is the mean over the part of this process, *share* its part of the batch.
        """
        if self.size == 1:
            torch.autograd.backward(loss)
            return loss.detach()
        scaled = loss * share
        torch.autograd.backward(scaled)
        for leaf in leaves:
            if leaf.grad is None:
                leaf.grad = torch.zeros_like(leaf)
        parts = [scaled.detach().reshape(1), *(leaf.grad.reshape(-1) for leaf in leaves)]  # type: ignore[union-attr]
        summed = torch.cat(parts)
        torch.distributed.all_reduce(summed)
        whole, *gradients = torch.split(summed, [len(part) for part in parts])
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = gradient.reshape(leaf.shape).clone()
        return whole[0]
