"""Encode videos by the item tower that all retrieval models share (torch).

Source:
    Covington, Adams, Sargin, Deep Neural Networks for YouTube Recommendations, RecSys 2016,
    https://doi.org/10.1145/2959100.2959190
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.training.config import TowerConfig

# Shape legend: N = videos, D = width of a vector.


class ItemTower(nn.Module):
    """Encodes content and duration as an input vector and an output vector, not yet of norm 1.

    Both start as the content vector itself: what was watched and what is near to it share a
    space before anything is learned.
    """

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(config.dim + 1, config.dim), nn.ReLU())
        self.to_input = nn.Linear(config.dim, config.dim)
        self.to_output = nn.Linear(config.dim, config.dim)
        for layer in (self.to_input, self.to_output):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, content_ND: Float[Tensor, "N D"], log_duration_N1: Float[Tensor, "N 1"]
    ) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N D"]]:
        """Return both vectors; the id embeddings of the videos are added by the caller."""
        hidden_ND = self.hidden_of(content_ND, log_duration_N1)
        return content_ND + self.to_input(hidden_ND), content_ND + self.to_output(hidden_ND)

    def hidden_of(
        self, content_ND: Float[Tensor, "N D"], log_duration_N1: Float[Tensor, "N 1"]
    ) -> Float[Tensor, "N D"]:
        """Return what both vectors are made of, for a step that needs one of them for most."""
        hidden_ND: Tensor = self.hidden(torch.cat([content_ND, log_duration_N1], dim=1))
        return hidden_ND
