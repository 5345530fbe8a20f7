"""Encode users by the tower of the DSSM family (torch).

The user is one average over what was watched, one over what was completed, the search and the
context, through dense layers of its own. It knows no order. Trained with the other videos of
the batch as negatives and the logQ correction (``negatives`` and ``loss`` of its
configuration), it is what large sites serve when a mean is all that they can afford.

Sources:
    Huang et al., Learning Deep Structured Semantic Models for Web Search using Clickthrough
    Data, CIKM 2013, https://doi.org/10.1145/2505515.2505665
    Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations,
    RecSys 2019, https://doi.org/10.1145/3298689.3346996
"""

import torch
from torch import Tensor, nn

from models.features.features import CONTEXT_FIELDS, MAX_WATCHES, WATCH_FEATURES
from models.towers.layers import ContextEncoder, UserTower, WatchInputs, mean, running_mean
from models.training.config import TowerConfig

# Shape legend: B = users, T = watches, F = features of a watch, D = width of a vector,
# C = width of all context embeddings together, A = forms of example age.

_FIRST_MEAN_WEIGHT = 0.3


class DssmTower(UserTower):
    """Encodes a history as a user vector of unit norm; the example age is not read."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width = 2 * config.dim + len(WATCH_FEATURES)
        self.watched = nn.Linear(width, config.hidden_dim)
        self.asked = nn.Linear(
            config.dim + config.context_dim * len(CONTEXT_FIELDS), config.hidden_dim, bias=False
        )
        self.hidden = nn.Sequential(
            nn.ReLU(), nn.Linear(config.hidden_dim, config.hidden_dim), nn.ReLU()
        )
        self.out = nn.Linear(config.hidden_dim, config.dim)
        self.mean_weight = nn.Parameter(torch.tensor(_FIRST_MEAN_WEIGHT))
        self.situation = ContextEncoder(config)
        with torch.no_grad():
            self.out.weight.mul_(0.02)
            self.out.bias.mul_(0.02)

    def _users(
        self, watched: WatchInputs, search_BD: Tensor, context_BC: Tensor, _example_age_BA: Tensor
    ) -> Tensor:
        watched_BD = mean(watched.watches_BTD, watched.mask_BT)
        completed_BD = mean(watched.watches_BTD, watched.completed_BT)
        parts = [watched_BD, completed_BD, mean(watched.features_BTF, watched.mask_BT)]
        hidden_BH = self.watched(torch.cat(parts, dim=1))
        hidden_BH = hidden_BH + self.asked(torch.cat([search_BD, context_BC], dim=1))
        skip_BD = self.mean_weight * (watched_BD + completed_BD)
        situation_BD = self.situation(search_BD, context_BC)
        user_BD: Tensor = skip_BD + situation_BD + self.out(self.hidden(hidden_BH))
        return user_BD

    def _positions(self, watched: WatchInputs) -> Tensor:
        watched_BTD = running_mean(watched.watches_BTD, watched.mask_BT, MAX_WATCHES)
        completed_BTD = running_mean(watched.watches_BTD, watched.completed_BT, MAX_WATCHES)
        features_BTF = running_mean(watched.features_BTF, watched.mask_BT, MAX_WATCHES)
        hidden_BTH = self.watched(torch.cat([watched_BTD, completed_BTD, features_BTF], dim=2))
        skip_BTD = self.mean_weight * (watched_BTD + completed_BTD)
        out_BTD: Tensor = self.out(self.hidden(hidden_BTH))
        return skip_BTD + self.situation.nothing_D + out_BTD
