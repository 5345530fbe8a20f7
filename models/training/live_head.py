"""Weigh each user's taste against live signals (torch; training only).

    logit = s * u.v + w(u).f

with the user's taste u and the video's v, both of unit norm, the live signals f of the video
(models/serving/live_signals.py), and weights w that depend on the taste: who watches what everybody
watches is given more of it. The logit is one inner product, and so is the served score: a user
vector of unit norm keeps its own order of videos whatever it was divided by.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.serving.live_signals import NUM_SIGNALS, SCALE, SIGNALS
from models.towers.layers import unit
from models.training.config import TowerConfig

# Shape legend: B = users or positions, D = width of a taste, K = live signals,
# E = width of a served vector.

_FIRST_WEIGHTS = {"watches_3h": 0.3, "completed_24h": 0.3, "watches_720h": 0.3}


class LiveHead(nn.Module):
    """Joins tastes and live signals."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        self.weights = nn.Linear(config.dim, NUM_SIGNALS)
        with torch.no_grad():
            self.weights.weight.mul_(0.1)
            first_K = [_FIRST_WEIGHTS.get(name, 0.0) for name in SIGNALS]
            self.weights.bias.copy_(torch.tensor(first_K))

    def joined(self, user_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """Return what gives logits as inner products with (taste, signals) of the videos."""
        return torch.cat([user_BD * self.log_scale.exp(), self.weights(user_BD)], dim=1)

    def forward(self, user_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """Return the user vectors as served: of unit norm, for `live_signals.served_items`."""
        taste_BD = user_BD * self.log_scale.exp()
        weights_BK = self.weights(user_BD) / SCALE
        return unit(torch.cat([taste_BD, weights_BK, torch.zeros_like(user_BD[:, :1])], dim=1))
