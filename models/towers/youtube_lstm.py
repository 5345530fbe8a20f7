"""Encode users by the YouTube DNN with an LSTM in place of its averages (torch).

What the averages lose is the order; what the last state of an LSTM loses is all but the newest. The
maximum over time of every unit of the LSTM keeps whatever was once strong. Search, context, the
averages of the watch features and the example age go through the same tower as in
`models.towers.youtube_dnn`, and the newest watch reaches the output directly, so that an untrained
model recommends by content.

Nothing in the LSTM has a bias of its own; a constant input, zero on padding, takes its place,
so that padding changes nothing.

Sources:
    Covington, Adams, Sargin, Deep Neural Networks for YouTube Recommendations, RecSys 2016,
    https://doi.org/10.1145/2959100.2959190
    Hochreiter, Schmidhuber, Long Short-Term Memory, Neural Computation 9(8), 1997,
    https://doi.org/10.1162/neco.1997.9.8.1735
"""

import torch
from torch import Tensor, nn

from models.features.features import WATCH_FEATURES
from models.towers.layers import UserTower, WatchInputs, WatchReader
from models.towers.youtube_dnn import (
    beside_watches,
    num_beside_watches,
    running_beside_watches,
)
from models.training.config import TowerConfig

# Shape legend: B = users, T = watches, F = features of a watch, D = width of a vector, H = units,
# C = width of all context embeddings together, A = forms of example age.

_LOWEST = -1.0
"""What no unit of an LSTM can fall below: the maximum over nothing."""
_FIRST_NEWEST_WEIGHT = 0.3
_FIRST_SEARCH_WEIGHT = 0.2


class YoutubeLstmTower(UserTower):
    """Encodes a history as a user vector of unit norm."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        dim, num_units = config.dim, config.hidden_dim
        self.read = WatchReader(config)
        self.lstm = nn.LSTM(dim + 1, num_units, bias=False, batch_first=True)
        self.num_beside = num_beside_watches(config)
        width = num_units + dim + self.num_beside + len(WATCH_FEATURES) + 1
        self.hidden = nn.Sequential(nn.Linear(width, num_units), nn.ReLU())
        self.out = nn.Linear(num_units, dim)
        self.newest_weight = nn.Parameter(torch.tensor(_FIRST_NEWEST_WEIGHT))
        self.search_weight = nn.Parameter(torch.tensor(_FIRST_SEARCH_WEIGHT))
        with torch.no_grad():
            self.out.weight.mul_(0.02)
            self.out.bias.mul_(0.02)

    def _users(
        self, watched: WatchInputs, search_BD: Tensor, context_BC: Tensor, example_age_BA: Tensor
    ) -> Tensor:
        read_BTD = self.read(watched)
        strongest_BH = self._units(read_BTD, watched.mask_BT).amax(dim=1)
        others = beside_watches(watched, search_BD, context_BC, example_age_BA)
        newest_BD = read_BTD[:, -1]
        out_BD = self.out(self.hidden(torch.cat([strongest_BH, newest_BD, *others], dim=1)))
        user_BD: Tensor = self.newest_weight * newest_BD + self.search_weight * search_BD + out_BD
        return user_BD

    def _positions(self, watched: WatchInputs) -> Tensor:
        read_BTD = self.read(watched)
        strongest_BTH = self._units(read_BTD, watched.mask_BT).cummax(dim=1).values
        others = running_beside_watches(watched, self.num_beside)
        out_BTD = self.out(self.hidden(torch.cat([strongest_BTH, read_BTD, *others], dim=2)))
        user_BTD: Tensor = self.newest_weight * read_BTD + out_BTD
        return user_BTD

    def _units(self, read_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the units of the LSTM after every watch; on padding what no maximum picks."""
        units_BTH, _ = self.lstm(torch.cat([read_BTD, mask_BT.unsqueeze(-1)], dim=2))
        mask_BT1 = mask_BT.unsqueeze(-1)
        picked_BTH: Tensor = units_BTH * mask_BT1 + _LOWEST * (1.0 - mask_BT1)
        return picked_BTH
