"""Encode users by the tower of the YouTube DNN for retrieval (torch).

Averages of what was watched and searched for, with context and example age, through a ReLU
tower. Three things differ from the paper, each because it was measured or has to be so:

* the history is averaged over the last 50, 5 and 1 watches (``pools`` of the configuration),
  and over the completed ones of each; one average over 50 forgets the order, which was worth two
  thirds of the hit rate;
* the averages also reach the output directly: a user vector is at first the mean of the
  watched vectors, so an untrained model recommends by content, and the tower learns the rest;
* outputs have unit norm and a temperature, since nearest-neighbour graphs lose half of their
  recall on unequal norms; popularity belongs to the ranker.

Towers take vectors, not rows. Embedding tables stay outside, and so out of the ONNX graphs.

Source:
    Covington, Adams, Sargin, Deep Neural Networks for YouTube Recommendations, RecSys 2016,
    https://doi.org/10.1145/2959100.2959190
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.features.features import CONTEXT_FIELDS, WATCH_FEATURES
from models.towers.layers import UserTower, WatchInputs, mean, running_mean
from models.training.config import TowerConfig

# Shape legend: B = users, T = watches, F = features of a watch, P = pools, D = width of a vector,
# C = width of all context embeddings together, A = forms of example age.

# Small, but far above what the untrained tower adds: content decides at first, and what the
# tower learns of everybody's taste need not grow for minutes before it is heard.
_FIRST_POOL_WEIGHT, _FIRST_COMPLETED_POOL_WEIGHT = 0.04, 0.12
_FIRST_SEARCH_WEIGHT = 0.2
_NUM_AGE_FORMS = 3


class YoutubeDnnTower(UserTower):
    """Encodes a history as a user vector of unit norm."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.num_beside = num_beside_watches(config)
        self.pools = config.pools
        num_pools = 2 * len(self.pools)
        width = num_pools * dim + self.num_beside + len(WATCH_FEATURES) + 1
        self.hidden = nn.Sequential(
            nn.Linear(width, config.hidden_dim),
            nn.ReLU(),
            nn.Linear(config.hidden_dim, config.hidden_dim),
            nn.ReLU(),
        )
        self.out = nn.Linear(config.hidden_dim, dim)
        weight_P = torch.full((num_pools,), _FIRST_POOL_WEIGHT)
        weight_P[len(self.pools) :] = _FIRST_COMPLETED_POOL_WEIGHT
        self.pool_weight_P = nn.Parameter(weight_P)
        self.search_weight = nn.Parameter(torch.tensor(_FIRST_SEARCH_WEIGHT))
        with torch.no_grad():
            self.out.weight.mul_(0.02)
            self.out.bias.mul_(0.02)

    def _users(
        self, watched: WatchInputs, search_BD: Tensor, context_BC: Tensor, example_age_BA: Tensor
    ) -> Tensor:
        # one product for all pools, since each slice or weighted copy of the watches costs another
        # gradient as large as the watches (measured: a fifth of a step of 1,024 users)
        weights_B2T = torch.stack([watched.mask_BT, watched.completed_BT], dim=1)
        pools = [_last(weights_B2T, last) for last in self.pools]
        pools_BPD = _means(watched.watches_BTD, torch.stack(pools, dim=2).flatten(1, 2))
        skip_BD = (pools_BPD * self.pool_weight_P[None, :, None]).sum(dim=1)
        skip_BD = skip_BD + self.search_weight * search_BD
        others = beside_watches(watched, search_BD, context_BC, example_age_BA)
        everything = torch.cat([pools_BPD.flatten(start_dim=1), *others], dim=1)
        out_BD: Tensor = self.out(self.hidden(everything))
        return skip_BD + out_BD

    def _positions(self, watched: WatchInputs) -> Tensor:
        pools = [
            running_mean(watched.watches_BTD, weight_BT, last)
            for weight_BT in (watched.mask_BT, watched.completed_BT)
            for last in self.pools
        ]
        pools_BTPD = torch.stack(pools, dim=2)
        skip_BTD = (pools_BTPD * self.pool_weight_P[:, None]).sum(dim=2)
        others = running_beside_watches(watched, self.num_beside)
        everything = torch.cat([pools_BTPD.flatten(start_dim=2), *others], dim=2)
        out_BTD: Tensor = self.out(self.hidden(everything))
        return skip_BTD + out_BTD


def _last(weights_BWT: Float[Tensor, "B W T"], last: int) -> Float[Tensor, "B W T"]:
    """Return the weights of the *last* positions, and zeros for those before."""
    return torch.cat([weights_BWT[:, :, :-last] * 0.0, weights_BWT[:, :, -last:]], dim=2)


def _means(
    x_BTD: Float[Tensor, "B T D"], weights_BWT: Float[Tensor, "B W T"]
) -> Float[Tensor, "B W D"]:
    """Return the mean over T by each of these weights; zero where they are all zero."""
    return weights_BWT @ x_BTD / weights_BWT.sum(dim=2, keepdim=True).clamp(min=1.0)


def num_beside_watches(config: TowerConfig) -> int:
    """Return the width of search, context and example age together."""
    return config.dim + config.context_dim * len(CONTEXT_FIELDS) + _NUM_AGE_FORMS


def beside_watches(
    watched: WatchInputs, search_BD: Tensor, context_BC: Tensor, example_age_BA: Tensor
) -> list[Tensor]:
    """Return what the tower reads of a user beside the vectors of the watches, each B x width."""
    mean_BF = mean(watched.features_BTF, watched.mask_BT)
    length_B1 = watched.mask_BT.sum(dim=1, keepdim=True)
    return [search_BD, context_BC, example_age_BA, mean_BF, torch.log(length_B1 + 1.0)]


def running_beside_watches(watched: WatchInputs, num_beside: int) -> list[Tensor]:
    """Return `beside_watches` as of every watch, without search, context and age: B x T x width."""
    num_users, length, _ = watched.watches_BTD.shape
    return [
        torch.zeros(num_users, length, num_beside),
        running_mean(watched.features_BTF, watched.mask_BT, length),
        torch.log(watched.mask_BT.cumsum(dim=1) + 1.0).unsqueeze(-1),
    ]
