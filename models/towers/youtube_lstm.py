"""The user tower of the YouTube DNN with an LSTM in place of its averages (torch).

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
from jaxtyping import Float
from torch import Tensor, nn

from models.features.features import CONTEXT_FIELDS, WATCH_FEATURES
from models.towers.layers import WatchReader, mean, running_mean, unit
from models.training.config import TowerConfig

# Shape legend: B = users, T = watches, F = features of a watch, D = width of a vector, H = units,
# C = width of all context embeddings together, A = forms of example age.

_LOWEST = -1.0
"""What no unit of an LSTM can fall below: the maximum over nothing."""
_NUM_AGE_FORMS = 3
_FIRST_NEWEST_WEIGHT = 0.3
_FIRST_SEARCH_WEIGHT = 0.2


class YoutubeLstmTower(nn.Module):
    """Encodes a history as a user vector of unit norm."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        dim, num_units = config.dim, config.hidden_dim
        self.read = WatchReader(config)
        self.lstm = nn.LSTM(dim + 1, num_units, bias=False, batch_first=True)
        self.num_beside = dim + config.context_dim * len(CONTEXT_FIELDS) + _NUM_AGE_FORMS
        width = num_units + dim + self.num_beside + len(WATCH_FEATURES) + 1
        self.hidden = nn.Sequential(nn.Linear(width, num_units), nn.ReLU())
        self.out = nn.Linear(num_units, dim)
        self.newest_weight = nn.Parameter(torch.tensor(_FIRST_NEWEST_WEIGHT))
        self.search_weight = nn.Parameter(torch.tensor(_FIRST_SEARCH_WEIGHT))
        with torch.no_grad():
            self.out.weight.mul_(0.02)
            self.out.bias.mul_(0.02)

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
        read_BTD = self.read(watches_BTD, watch_features_BTF, mask_BT)
        strongest_BH = self._units(read_BTD, mask_BT).amax(dim=1)
        beside = [
            search_BD,
            context_BC,
            example_age_BA,
            mean(watch_features_BTF, mask_BT),
            torch.log(mask_BT.sum(dim=1, keepdim=True) + 1.0),
        ]
        newest_BD = read_BTD[:, -1]
        out_BD = self.out(self.hidden(torch.cat([strongest_BH, newest_BD, *beside], dim=1)))
        return unit(self.newest_weight * newest_BD + self.search_weight * search_BD + out_BD)

    def positions(
        self,
        watches_BTD: Float[Tensor, "B T D"],
        watch_features_BTF: Float[Tensor, "B T F"],
        mask_BT: Float[Tensor, "B T"],
    ) -> Float[Tensor, "B T D"]:
        """Return the user vectors as of every watch, for which only it and earlier ones count."""
        num_users, length, _ = watches_BTD.shape
        read_BTD = self.read(watches_BTD, watch_features_BTF, mask_BT)
        strongest_BTH = self._units(read_BTD, mask_BT).cummax(dim=1).values
        beside = [
            torch.zeros(num_users, length, self.num_beside),
            running_mean(watch_features_BTF, mask_BT, length),
            torch.log(mask_BT.cumsum(dim=1) + 1.0).unsqueeze(-1),
        ]
        out_BTD = self.out(self.hidden(torch.cat([strongest_BTH, read_BTD, *beside], dim=2)))
        return unit(self.newest_weight * read_BTD + out_BTD)

    def _units(self, read_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the units of the LSTM after every watch; on padding what no maximum picks."""
        units_BTH, _ = self.lstm(torch.cat([read_BTD, mask_BT.unsqueeze(-1)], dim=2))
        mask_BT1 = mask_BT.unsqueeze(-1)
        picked_BTH: Tensor = units_BTH * mask_BT1 + _LOWEST * (1.0 - mask_BT1)
        return picked_BTH
