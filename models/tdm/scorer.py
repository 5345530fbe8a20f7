"""Score the nodes of a TDM tree by a network, with its losses (torch).

Sources:
    Zhu et al., Learning Tree-based Deep Model for Recommender Systems, KDD 2018,
    https://arxiv.org/abs/1801.02294, sections 3.2 and 3.3
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

# Shape legend: B = users, M = nodes of each user, S = nodes drawn, n = nodes of a level,
# D = width of a vector, E = D + 1: a node, its bias last, H = hidden units.


@dataclass(frozen=True, slots=True)
class TdmConfig:
    """The configuration of a tree and its scorer.

    Similarities are multiplied by a gain of about 60, and so is every step of a node: with a
    *node_lr* of .02 calibration was noise (a beam kept .987 of the exhaustive recall@100, .992
    without it), with .002 it kept all of it (KuaiRand, 29 and 30 April, 1,656 cases). The network
    starts as the inner product that the towers were trained for, and learns slowly.
    """

    hidden_dim: int = 8
    num_negatives: int = 128
    blend: float = 0.8
    sharpness: float = 1.0
    num_kept: int = 4_096
    rebuild_examples: int = 512
    calibration_steps: int = 60
    calibration_users: int = 32
    num_best: int = 130
    list_edge: float = 0.3
    list_dim: int = 64
    lr: float = 1e-4
    node_lr: float = 0.002

    def __post_init__(self) -> None:
        if not 0.0 <= self.blend <= 1.0:
            raise ValueError(f"blend must be from 0 to 1, got {self.blend}")
        for name in ("sharpness", "list_edge"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


class NodeScorer(nn.Module):
    """Scores how likely the next watch of a user is below a node, as a logit."""

    def __init__(self, dim: int, hidden_dim: int, *, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
        self.of_user = nn.Linear(dim, hidden_dim)
        self.of_node = nn.Linear(dim + 1, hidden_dim, bias=False)
        self.of_product = nn.Linear(dim, hidden_dim, bias=False)
        self.out = nn.Linear(hidden_dim, 1, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(
        self, user_BD: Float[Tensor, "B D"], node_BME: Float[Tensor, "B M E"]
    ) -> Float[Tensor, "B M"]:
        """Return the logits, at first gain * u . vector + bias."""
        product_BMD = user_BD[:, None, :] * node_BME[:, :, :-1]
        hidden_BMH = torch.relu(
            self.of_user(user_BD)[:, None, :]
            + self.of_node(node_BME)
            + self.of_product(product_BMD)
        )
        plain_BM = self.gain * product_BMD.sum(dim=2) + node_BME[:, :, -1]
        logits_BM: Tensor = plain_BM + self.out(hidden_BMH).squeeze(2)
        return logits_BM

    def of_all(
        self, user_BD: Float[Tensor, "B D"], node_nE: Float[Tensor, "n E"]
    ) -> Float[Tensor, "B n"]:
        """Return what `forward` gives every user for the same nodes, by matrix products."""
        vector_nD = node_nE[:, :-1]
        plain_Bn = self.gain * (user_BD @ vector_nD.T) + node_nE[:, -1]
        hidden_BnH = self.of_user(user_BD)[:, None, :] + self.of_node(node_nE)
        by_user_BDH = user_BD[:, :, None] * self.of_product.weight.T
        hidden_BnH = torch.relu(hidden_BnH + vector_nD @ by_user_BDH)
        logits_Bn: Tensor = plain_Bn + self.out(hidden_BnH).squeeze(2)
        return logits_Bn


def level_loss(
    positive_B: Float[Tensor, "B"],
    negative_BS: Float[Tensor, "B S"],
    is_hit_BS: Bool[Tensor, "B S"],
    num_others: int,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of a level: its right node against *num_others* others.

    The S drawn ones stand for all others: their sum of exponentials is multiplied by
    num_others / S. What was drawn by accident, the right node itself, does not count.
    """
    num_drawn_B = (~is_hit_BS).sum(dim=1).clamp(min=1)
    shift_B = torch.log(num_others / num_drawn_B)
    others_BS = (negative_BS + shift_B[:, None]).masked_fill(is_hit_BS, -torch.inf)
    logits_BS = torch.cat([positive_B[:, None], others_BS], dim=1)
    return (torch.logsumexp(logits_BS, dim=1) - positive_B).mean()


def heap_loss(
    score_Bn: Float[Tensor, "B n"], best_Bn: Float[Tensor, "B n"], bar_B1: Float[Tensor, "B 1"]
) -> Float[Tensor, ""]:
    """Return how far nodes are from what their leaves are worth, the best of them, in squares.

    A node weighs by how near its leaves come to the bar, the score that makes a user's list:
    only there does it matter whether a beam goes on.
    """
    weight_Bn = torch.sigmoid(best_Bn - bar_B1)
    error_Bn = torch.where(weight_Bn > 0, score_Bn - best_Bn, 0.0)
    return (weight_Bn * error_Bn.square()).sum() / weight_Bn.sum().clamp(min=1e-9)
