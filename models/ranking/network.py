"""Define the network of a ranker in three parts, so that serving computes each as seldom as it can.

* The *video* part depends on the video alone: once for each video and generation.
* The *user* part depends on the request: once for all its candidates.
* The *pair* part is what is left for each candidate.

Video and pair meet in the first layer, whose input is the sum of what they give. What the request
alone says is a network of its own, added to the outputs: it says how ready this user is to watch
anything now, and cannot order candidates. Read by the hidden layers it made the order within users
worse, since a user's mood of the moment is not that of the next visit (docs/experiments.md).

The user is what was watched: the embeddings of the completed and of the other watches are summed up
apart, each over the whole history and over the newest ones. What was left early is told, too:
retrieval does not know it.

Source:
    Covington, Adams, Sargin, Deep Neural Networks for YouTube Recommendations, section 4,
    RecSys 2016, https://doi.org/10.1145/2959100.2959190
    Guo, Tang, Ye, Li, He, DeepFM: A Factorization-Machine based Neural Network for CTR Prediction,
    IJCAI 2017, https://doi.org/10.24963/ijcai.2017/239
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from models.features.ranking_features import (
    CODED_CONTEXT,
    NUM_CODES,
    PLAIN_CONTEXT,
    PLAIN_PAIR,
    VIDEO_FEATURES,
)
from models.ranking.config import RankerConfig
from models.ranking.normaliser import num_columns
from models.serving.ranker_history import NUM_STATS, POOLS, STATS_OF
from models.serving.ranker_tables import NUM_PRODUCTS

# Shape legend: B = requests, T = watches, M = candidates, D = width of an embedding,
# H = width of the first layer, O = outputs.

NUM_SKIPPED = 4
"""So many of the products of user and video (`NUM_PRODUCTS`), the first ones, also go to the
outputs directly."""
CODE_DIM = 4
USER_DIM = 128


class UserPart(NamedTuple):
    """What the candidates of a request have in common."""

    own_BO: Tensor
    taste_BD: Tensor
    bias_B: Tensor


class VideoPart(NamedTuple):
    """What a video is, whoever sees it."""

    first_NH: Tensor
    query_ND: Tensor
    bias_N: Tensor


class UserInputs(NamedTuple):
    """Pools of the history, what is counted in it, normalised context, and codes."""

    pools_BP: Tensor
    stats_BS: Tensor
    context_BU: Tensor
    codes_BC: Tensor


def pooled(history_BTD: Tensor, is_there_BT: Tensor, is_completed_BT: Tensor) -> Tensor:
    """Return the sums over completed and other watches, by the root of how many there are."""
    pools = []
    for most in POOLS:
        recent = slice(None) if most is None else slice(-most, None)
        for is_of_BT in (is_completed_BT, is_there_BT & ~is_completed_BT):
            weight_BT1 = is_of_BT[:, recent].unsqueeze(-1).to(history_BTD.dtype)
            total_BD = (history_BTD[:, recent] * weight_BT1).sum(1)
            pools.append(total_BD / (weight_BT1.sum(1) + 1.0).sqrt())
    return torch.cat(pools, dim=1)


def stats(is_there_BT: Tensor, is_completed_BT: Tensor) -> Tensor:
    """Return how much was completed of all and of the newest, and how much there is."""
    completed_B = is_completed_BT.sum(1).float()
    others_B = is_there_BT.sum(1).float() - completed_B
    newest_B = is_completed_BT[:, -STATS_OF:].sum(1).float()
    there_B = is_there_BT[:, -STATS_OF:].sum(1).float()
    return torch.stack(
        [
            (completed_B + 1.5) / (completed_B + others_B + 5.0),
            torch.log1p(completed_B) / 3.0,
            torch.log1p(others_B) / 3.0,
            (newest_B + 0.3) / (there_B + 1.0),
        ],
        dim=1,
    )


class RankerNetwork(nn.Module):
    """The dense layers; embeddings of videos are in `models.ranking.tables`."""

    def __init__(self, config: RankerConfig, num_outputs: int) -> None:
        super().__init__()
        self.config = config
        dim, roots = config.dim, config.has_roots
        self.num_first = config.hidden[0] if config.hidden else 1
        num_context = num_columns(len(PLAIN_CONTEXT), has_roots=roots)
        num_pair = num_columns(len(PLAIN_PAIR), has_roots=roots)
        num_video = num_columns(len(VIDEO_FEATURES), has_roots=roots)
        self.codes = nn.Embedding(len(CODED_CONTEXT) * (NUM_CODES + 1), CODE_DIM)
        self.sources = nn.Embedding(NUM_CODES + 1, 1)
        self.surfaces = nn.Embedding(NUM_CODES + 1, dim)
        self.factors = nn.Embedding(len(CODED_CONTEXT) * (NUM_CODES + 1), dim)
        for table in (self.codes, self.sources, self.surfaces, self.factors):
            nn.init.normal_(table.weight, std=0.01)
        num_user = num_context + NUM_STATS + len(CODED_CONTEXT) * CODE_DIM
        num_candidate = num_video
        if config.has_embeddings:
            self.taste = nn.Sequential(
                nn.Linear(2 * len(POOLS) * dim + NUM_STATS, USER_DIM),
                nn.GELU(),
                nn.Linear(USER_DIM, dim),
            )
            num_user, num_candidate = num_user + dim, num_candidate + dim
        self.user_bias = nn.Linear(NUM_STATS, 1)
        self.user_own: nn.Module = nn.Linear(num_user, num_outputs)
        if config.hidden:
            self.user_own = nn.Sequential(
                nn.Linear(num_user, self.num_first),
                nn.ReLU(),
                nn.Linear(self.num_first, num_outputs),
            )
        self.video_first = nn.Linear(num_candidate, self.num_first)
        # products of embeddings, position and source stand beside the features of the pair
        self.pair_first = nn.Linear(num_pair + NUM_PRODUCTS, self.num_first, bias=False)
        layers: list[nn.Module] = []
        for width, following in zip(config.hidden, config.hidden[1:], strict=False):
            layers += [nn.ReLU(), nn.Linear(width, following)]
        last = config.hidden[-1] if config.hidden else 1
        self.hidden = nn.Sequential(*layers, nn.ReLU()) if config.hidden else nn.Identity()
        self.heads = nn.Linear(last, num_outputs)
        self.skip = nn.Linear(NUM_SKIPPED, num_outputs, bias=False)
        with torch.no_grad():
            self.heads.weight.zero_()  # until it has learned, its embeddings alone decide
            self.heads.bias.zero_()
            for parameter in list(self.user_own.parameters())[-2:]:
                parameter.zero_()
            self.skip.weight.zero_()
            self.skip.weight[:2] = 1.0  # of the probabilities of watched and completed

    def user_part(self, inputs: UserInputs) -> UserPart:
        """Return what the candidates of each request have in common."""
        offset_C = torch.arange(len(CODED_CONTEXT)) * (NUM_CODES + 1)
        codes_BC = self.codes(inputs.codes_BC + offset_C).flatten(1)
        known = [inputs.context_BU, inputs.stats_BS, codes_BC]
        taste_BD = torch.zeros((inputs.stats_BS.shape[0], self.config.dim))
        if self.config.has_embeddings:
            taste_BD = self.taste(torch.cat([inputs.pools_BP, inputs.stats_BS], dim=1))
            known.append(taste_BD)
        return UserPart(
            self.user_own(torch.cat(known, dim=1)),
            taste_BD,
            self.user_bias(inputs.stats_BS)[:, 0],
        )

    def context_factors(self, codes_BC: Tensor) -> Tensor:
        """Return the vector whose product with a video says how it goes with the context.

        With factors it is the sum over all fields: the part of the factorisation machine of DeepFM
        that differs between the candidates of a request (equation 2; what fields of the context
        have in common is the same for all).
        """
        surface_BD: Tensor = self.surfaces(codes_BC[:, CODED_CONTEXT.index("surface")])
        if not self.config.has_factors:
            return surface_BD
        offset_C = torch.arange(len(CODED_CONTEXT)) * (NUM_CODES + 1)
        factors_BD: Tensor = surface_BD + self.factors(codes_BC + offset_C).sum(1)
        return factors_BD

    def video_part(self, embedding_NW: Tensor, features_NV: Tensor) -> VideoPart:
        """Return the part of each video, of its summed embedding and its normalised features."""
        dim = self.config.dim
        query_ND, bias_N = embedding_NW[:, dim : 2 * dim], embedding_NW[:, -1]
        inputs = features_NV
        if self.config.has_embeddings:
            inputs = torch.cat([features_NV, query_ND], dim=1)
        else:
            query_ND, bias_N = torch.zeros_like(query_ND), torch.zeros_like(bias_N)
        return VideoPart(self.video_first(inputs), query_ND, bias_N)

    def pair_part(
        self,
        first_MH: Tensor,
        products_MX: Tensor,
        pair_MP: Tensor,
        own_MO: Tensor,
    ) -> Tensor:
        """Return the outputs of each pair.

        *first_MH* is the part of the video, *own_MO* that of the user. *products_MX* are the
        product with the taste, the two biases together, the product with the surface, how often it
        is watched on this surface (`models.ranking.surfaces`), position and source.
        """
        inputs = torch.cat([pair_MP, products_MX], dim=1)
        first_MH = first_MH + self.pair_first(inputs)
        skipped_MO = self.skip(products_MX[:, :NUM_SKIPPED])
        outputs_MO: Tensor = own_MO + self.heads(self.hidden(first_MH)) + skipped_MO
        return outputs_MO


def as_tensor(values: Float32[np.ndarray, "..."]) -> Tensor:
    """Return *values* as a tensor of float32."""
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
