"""Define the layers that the towers share (torch; training only)."""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.features.features import CONTEXT_FIELDS, WATCH_FEATURES, ContentBatch
from models.training.config import TowerConfig

# Shape legend: N = rows, B = users, T = watches, D = width of a vector, F = features of a watch,
# C = width of all context embeddings together, A = forms of example age,
# H = rows of the content table.

_EPSILON = 1e-12
_FIRST_SEARCH_WEIGHT = 0.2


def unit(x_ND: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
    """Return the rows at norm 1; safe for rows near zero."""
    return x_ND / torch.sqrt((x_ND * x_ND).sum(dim=-1, keepdim=True) + _EPSILON)


def mean(x_BTD: Float[Tensor, "B T D"], weight_BT: Float[Tensor, "B T"]) -> Float[Tensor, "B D"]:
    """Return the mean over T by these weights; zero where they are all zero."""
    total_BD = (x_BTD * weight_BT.unsqueeze(-1)).sum(dim=1)
    return total_BD / weight_BT.sum(dim=1, keepdim=True).clamp(min=1.0)


def running_mean(
    x_BTD: Float[Tensor, "B T D"], weight_BT: Float[Tensor, "B T"], last: int
) -> Float[Tensor, "B T D"]:
    """Return, as of every position, the `mean` over it and the *last* - 1 before it."""
    total_BTD = _windowed((x_BTD * weight_BT.unsqueeze(-1)).cumsum(dim=1), last)
    return total_BTD / _windowed(weight_BT.cumsum(dim=1), last).clamp(min=1.0).unsqueeze(-1)


def _windowed(total_BT: Tensor, last: int) -> Tensor:
    """Return running totals without what lies *last* positions back or further."""
    gone_BT = torch.zeros_like(total_BT)
    gone_BT[:, last:] = total_BT[:, :-last]
    return total_BT - gone_BT


class WatchInputs(NamedTuple):
    """The watches of some users: oldest first, padding (mask 0) in front."""

    watches_BTD: Float[Tensor, "B T D"]
    features_BTF: Float[Tensor, "B T F"]
    mask_BT: Float[Tensor, "B T"]

    @property
    def completed_BT(self) -> Float[Tensor, "B T"]:
        """1.0 where a watch was completed."""
        return self.mask_BT * self.features_BTF[:, :, 0]


class WatchReader(nn.Module):
    """Adds the features of watches to their vectors; padding becomes zero.

    The features start without weight. A sequence without times has zeros as ages, so their
    weights stay at zero until a stream with times teaches them.
    """

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.features = nn.Linear(len(WATCH_FEATURES), config.dim, bias=False)
        nn.init.zeros_(self.features.weight)

    def forward(self, watched: WatchInputs) -> Float[Tensor, "B T D"]:
        """Return what a tower reads of every watch."""
        read_BTD: Tensor = watched.watches_BTD + self.features(watched.features_BTF)
        return read_BTD * watched.mask_BT.unsqueeze(-1)


class ContextEncoder(nn.Module):
    """Encodes searches and context; ``nothing_D`` is the learned cold-start vector.

    It is the whole vector of a user without history, who needs a direction too.
    """

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width = config.context_dim * len(CONTEXT_FIELDS)
        self.context = nn.Linear(width, config.dim, bias=False)
        self.search_weight = nn.Parameter(torch.tensor(_FIRST_SEARCH_WEIGHT))
        # checkpoints have this name
        self.nothing_D = nn.Parameter(0.02 * torch.randn(config.dim) / config.dim**0.5)
        with torch.no_grad():
            self.context.weight.mul_(0.02)

    def forward(
        self, search_BD: Float[Tensor, "B D"], context_BC: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B D"]:
        """Return the vector to add to the user."""
        situation_BD: Tensor = self.search_weight * search_BD + self.context(context_BC)
        return self.nothing_D + situation_BD


def content_vectors(weight_HD: Float[Tensor, "H D"], content: ContentBatch) -> Float[Tensor, "N D"]:
    """Return the content vectors, as `models.serving.encoder.Tables.content` does, with gradients.

    20 times faster than one sum for each video, for a whole catalogue.
    """
    vectors_ND: Tensor = _ContentVectors.apply(weight_HD, content)  # type: ignore[no-untyped-call]
    return vectors_ND


class _ContentVectors(torch.autograd.Function):
    """Weighted sums of rows; the gradient of a row is the weighted sum over its videos.

    Measured, 15,000 videos of 30 features: sums 1.3 ms; their gradient by torch's own `backward`
    52 ms, as sums over the entries sorted by row 5 ms.
    """

    @staticmethod
    def forward(ctx: Any, weight_HD: Tensor, content: ContentBatch) -> Tensor:
        ctx.content, ctx.num_rows = content, len(weight_HD)
        return _sums(weight_HD, content.rows_M, content.starts_N, content.weights_M)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        content, num_rows = ctx.content, ctx.num_rows
        sizes_N = np.diff(content.starts_N, append=len(content.rows_M))
        video_M = np.repeat(np.arange(len(sizes_N), dtype=np.int32), sizes_N)
        # of 16 bits, since numpy sorts those by radix
        short = np.uint16 if num_rows <= np.iinfo(np.uint16).max + 1 else np.int32
        order_M = np.argsort(content.rows_M.astype(short), kind="stable")
        count_H = np.bincount(content.rows_M, minlength=num_rows)
        starts_H = np.cumsum(count_H) - count_H
        return _sums(grads[0], video_M[order_M], starts_H, content.weights_M[order_M]), None


def _sums(x_ND: Tensor, rows_M: np.ndarray, starts: np.ndarray, weights_M: np.ndarray) -> Tensor:
    """Return a weighted sum of rows of *x_ND* for each start; zero for those without a row."""
    return nn.functional.embedding_bag(
        torch.from_numpy(rows_M.astype(np.int32, copy=False)),
        x_ND.contiguous(),
        torch.from_numpy(starts.astype(np.int32)),
        mode="sum",
        per_sample_weights=torch.from_numpy(weights_M),
    )


class UserTower(nn.Module):
    """Encodes histories as user vectors of unit norm.

    Each tower defines `_users` and `_positions`, the vectors of both before they get unit norm.
    """

    def forward(
        self,
        watches_BTD: Float[Tensor, "B T D"],
        watch_features_BTF: Float[Tensor, "B T F"],
        mask_BT: Float[Tensor, "B T"],
        search_BD: Float[Tensor, "B D"],
        context_BC: Float[Tensor, "B C"],
        example_age_BA: Float[Tensor, "B A"],
    ) -> Float[Tensor, "B D"]:
        """Return the user vectors. Watches are oldest first, padding (mask 0) in front."""
        watched = WatchInputs(watches_BTD, watch_features_BTF, mask_BT)
        return unit(self._users(watched, search_BD, context_BC, example_age_BA))

    def positions(
        self,
        watches_BTD: Float[Tensor, "B T D"],
        watch_features_BTF: Float[Tensor, "B T F"],
        mask_BT: Float[Tensor, "B T"],
    ) -> Float[Tensor, "B T D"]:
        """Return the user vectors as of every watch, for which only it and earlier ones count.

        There are no searches, there is no context and the example age is zero.
        """
        return unit(self._positions(WatchInputs(watches_BTD, watch_features_BTF, mask_BT)))

    def _users(
        self, watched: WatchInputs, search_BD: Tensor, context_BC: Tensor, example_age_BA: Tensor
    ) -> Tensor:
        """Return the vectors of `forward`, B D, of any norm."""
        raise NotImplementedError

    def _positions(self, watched: WatchInputs) -> Tensor:
        """Return the vectors of `positions`, B T D, of any norm."""
        raise NotImplementedError


class CausalTower(UserTower):
    """A user tower whose state after a watch depends on that watch and earlier ones alone."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.situation = ContextEncoder(config)

    def _users(
        self, watched: WatchInputs, search_BD: Tensor, context_BC: Tensor, _example_age_BA: Tensor
    ) -> Tensor:
        situation_BD: Tensor = self.situation(search_BD, context_BC)
        return self._states(watched)[:, -1] + situation_BD

    def _positions(self, watched: WatchInputs) -> Tensor:
        return self._states(watched) + self.situation.nothing_D

    def _states(self, watched: WatchInputs) -> Tensor:
        """Return the state after every watch, B T D."""
        raise NotImplementedError
