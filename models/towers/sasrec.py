"""Encode users by the tower of SASRec: a causal transformer over the history (torch).

Each position attends to itself and to what lies before it, so one pass over a sequence gives
the user as of every position, and one sequence is as many training examples as it is long.
What differs from the paper, and why:

* a position is known by how far it lies behind the one that attends, a learned bias for each
  distance and head, and not by its place in the window: a window that slides, or that is
  padded to another length, says the same;
* the loss is a softmax over many negatives and not the paper's binary cross-entropy with one
  (`models.training.sequence_training`). One negative makes a model overconfident, and that alone
  accounts for what BERT4Rec was thought to gain;
* watches keep their own vectors on the residual path, so a model that has learned nothing
  recommends by the content of the newest watch.

Sources:
    Kang, McAuley, Self-Attentive Sequential Recommendation, ICDM 2018,
    https://arxiv.org/abs/1808.09781
    Petrov, Macdonald, gSASRec: Reducing Overconfidence in Sequential Recommendation Trained
    with Negative Sampling, RecSys 2023, https://arxiv.org/abs/2308.07192
    Raffel et al., Exploring the Limits of Transfer Learning (relative biases), JMLR 2020,
    section 2.1, https://arxiv.org/abs/1910.10683
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.features.features import MAX_WATCHES
from models.towers.layers import CausalTower, WatchInputs, WatchReader
from models.training.config import TowerConfig

# Shape legend: B = users, T = watches, F = features of a watch, D = width of a vector, H = heads,
# K = width of a head, C = width of all context embeddings together, A = forms of example age.

NUM_LAYERS = 2
NUM_HEADS = 2
_WIDENING = 2
_FAR_BELOW = -1e9


class Attention(nn.Module):
    """Causal multi-head attention, written out so that it exports as it is."""

    distance_TT: Tensor
    later_TT: Tensor

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.bias_HT = nn.Parameter(torch.zeros(num_heads, MAX_WATCHES))
        distance_TT = torch.arange(MAX_WATCHES)[:, None] - torch.arange(MAX_WATCHES)
        self.register_buffer("distance_TT", distance_TT.clamp(min=0), persistent=False)
        self.register_buffer("later_TT", (distance_TT < 0).float() * _FAR_BELOW, persistent=False)

    def forward(
        self, x_BTD: Float[Tensor, "B T D"], hidden_BT: Float[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """Return what each position gathers; positions where *hidden_BT* is 1 give nothing."""
        num_users, length, dim = x_BTD.shape
        split = (num_users, length, self.num_heads, dim // self.num_heads)
        query_BHTK, key_BHTK, value_BHTK = (
            part_BTD.reshape(split).transpose(1, 2)
            for part_BTD in self.query_key_value(x_BTD).chunk(3, dim=2)
        )
        bias_HTT = self.bias_HT[:, self.distance_TT[:length, :length]]
        bias_HTT = bias_HTT + self.later_TT[:length, :length]
        logits_BHTT = query_BHTK @ key_BHTK.transpose(2, 3) * (dim // self.num_heads) ** -0.5
        logits_BHTT = logits_BHTT + bias_HTT + hidden_BT[:, None, None, :] * _FAR_BELOW
        gathered_BHTK = torch.softmax(logits_BHTT, dim=-1) @ value_BHTK
        out_BTD: Tensor = self.out(gathered_BHTK.transpose(1, 2).reshape(num_users, length, dim))
        return out_BTD


class Block(nn.Module):
    """Attention, then two dense layers; norms in front, so the residual path stays free."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads)
        self.dense = nn.Sequential(
            nn.Linear(dim, _WIDENING * dim), nn.ReLU(), nn.Linear(_WIDENING * dim, dim)
        )

    def forward(
        self, x_BTD: Float[Tensor, "B T D"], hidden_BT: Float[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """Return the positions after one look at the others."""
        x_BTD = x_BTD + self.attention(self.first_norm(x_BTD), hidden_BT)
        seen_BTD: Tensor = x_BTD + self.dense(self.second_norm(x_BTD))
        return seen_BTD


class SasRecTower(CausalTower):
    """Encodes a history as a user vector of unit norm; the example age is not read."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__(config)
        if config.dim % NUM_HEADS:
            raise ValueError(f"dim must be a multiple of {NUM_HEADS}, got {config.dim}")
        self.read = WatchReader(config)
        self.blocks = nn.ModuleList(Block(config.dim, NUM_HEADS) for _ in range(NUM_LAYERS))
        self.norm = nn.LayerNorm(config.dim)
        self.scale = config.dim**0.5  # a vector of norm 1 then has entries as large as a norm makes

    def _states(self, watched: WatchInputs) -> Tensor:
        """Return the newest position of each layer's residual path, divided by the scale again."""
        x_BTD = self.read(watched) * self.scale
        for block in self.blocks:
            x_BTD = block(x_BTD, 1.0 - watched.mask_BT)
        states_BTD: Tensor = self.norm(x_BTD) * (watched.mask_BT.unsqueeze(-1) / self.scale)
        return states_BTD
