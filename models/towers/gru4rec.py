"""Encode users by the tower of GRU4Rec: a gated recurrent unit over the history (torch).

As its authors train it: the vectors that go in are those that are told apart at the end
(constrained embeddings, which is how all our models keep their videos), a softmax or BPR-max
over many extra samples, some by popularity. Measured third-party versions miss one or
several of these and lose up to half of the accuracy (Hidasi and Czapp, RecSys 2023).

Nothing in the unit has a bias of its own; a constant input, zero on padding, takes its place.
A state of zero then stays zero until the first watch, and padding changes nothing.

Sources:
    Hidasi et al., Session-based Recommendations with Recurrent Neural Networks, ICLR 2016,
    https://arxiv.org/abs/1511.06939
    Hidasi, Karatzoglou, Recurrent Neural Networks with Top-k Gains for Session-based
    Recommendations, CIKM 2018, https://arxiv.org/abs/1706.03847
"""

import torch
from torch import Tensor, nn

from models.towers.layers import CausalTower, WatchInputs, WatchReader
from models.training.config import TowerConfig

# Shape legend: B = users, T = watches, F = features of a watch, D = width of a vector,
# C = width of all context embeddings together, A = forms of example age.


class Gru4RecTower(CausalTower):
    """Encodes a history as a user vector of unit norm; the example age is not read."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__(config)
        self.read = WatchReader(config)
        self.unit = nn.GRU(config.dim + 1, config.hidden_dim, bias=False, batch_first=True)
        self.out = nn.Linear(config.hidden_dim, config.dim, bias=False)
        self.newest_weight = nn.Parameter(torch.tensor(1.0))

    def _states(self, watched: WatchInputs) -> Tensor:
        read_BTD = self.read(watched)
        states_BTH, _ = self.unit(torch.cat([read_BTD, watched.mask_BT.unsqueeze(-1)], dim=2))
        states_BTD: Tensor = self.newest_weight * read_BTD + self.out(states_BTH)
        return states_BTD
