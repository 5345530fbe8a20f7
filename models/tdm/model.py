"""Train the tree of TDM and the network that scores its nodes (torch; training only).

One network scores nodes of every level, the leaves included. Nodes begin as means over their
leaves (`models.tdm.nodes`), so a tree that was just made anew searches sensibly at once, and a
video that came a second ago is scored like any other. Two things learn from two teachers:

* the network, from what is watched (`TreeModel.step`): at each level the ancestor of the watched
  video against others of that level, drawn by lot;
* a correction of every inner node, from the leaves (`TreeModel.calibrate`): a node should score
  the soft maximum of its leaves. One watched video at a time says too little of that.

The loss of a level is a softmax over the draw, where the paper has a logistic loss of every
node: a beam compares the nodes of one level, and nothing else.

Sources:
    Zhu et al., Learning Tree-based Deep Model for Recommender Systems, KDD 2018,
    https://arxiv.org/abs/1801.02294
    Zhuo et al., Learning Optimal Tree Models under Beam Search, ICML 2020,
    https://arxiv.org/abs/2006.15408 (why watched videos do not teach inner nodes to be right)
    Halko, Martinsson, Tropp, Finding Structure with Randomness, SIAM Review 2011,
    https://arxiv.org/abs/0909.4061
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64, Integer
from torch import Tensor, nn

from models.tdm import nodes as tdm_nodes
from models.tdm.scorer import NodeScorer, TdmConfig, heap_loss, level_loss
from models.tdm.tree import FoundLeaves, Shape, Tree, beam_search, tree_of
from models.training.adam_state import load_moments, moments_of

_MOST_NUMBERS = 1 << 24
"""How many numbers `list_space` works on at once: 64 MiB of them."""
_POWERS = 2
_MIN_LIST_USERS = 256
"""With a million videos 16 users would fit `_MOST_NUMBERS`, too few to say what goes together."""

# Shape legend: B = users, W = axes kept, M = nodes of each user, S = nodes drawn, N = videos,
# n = nodes of a level, L = leaves, D = width of a vector, E = D + 1: a node, its bias last.


class TreeModel:
    """A tree over videos, the network that scores its nodes, and what they learned.

    *nodes* are as of the last `refresh`, by level, with the corrections of the inner ones.
    """

    def __init__(self, config: TdmConfig, dim: int, *, gain: float, seed: int) -> None:
        self.config = config
        self._dim = dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.scorer = NodeScorer(dim, config.hidden_dim, gain=gain)
        self._optimizer = torch.optim.Adam(self.scorer.parameters(), lr=config.lr, foreach=False)
        self.set_tree(Tree(1), Shape((1,), ()))

    def set_tree(self, tree: Tree, shape: Shape) -> None:
        """Replace the tree; what the nodes of the old one had learned is dropped."""
        self.tree, self.shape = tree, shape
        self._learned = {level: torch.zeros(1 << level, self._dim + 1) for level in shape.inner}
        self._plain: dict[int, Tensor] = {}
        self.parents_nD = np.zeros((1 << shape.parents, self._dim), np.float32)

    @property
    def nodes(self) -> dict[int, Tensor]:
        """The nodes that are scored, by level."""
        inner = {level: self._plain[level] + self._learned[level] for level in self.shape.inner}
        return inner | {self.shape.depth: self._plain[self.shape.depth]}

    def refresh(
        self, output_ND: Float32[np.ndarray, "N D"], user_D: Float32[np.ndarray, "D"]
    ) -> None:
        """Recompute the nodes from the video vectors and the mean user; row 0 is not a video."""
        vector_LD = output_ND[self.tree.row_L]
        is_there_L = self.tree.is_there(self.tree.depth)
        levels = self.shape.inner
        blend = self.config.blend if levels else 0.0
        last = self.shape.parents
        self.parents_nD = tdm_nodes.parent_means(vector_LD, is_there_L, last)
        parent_LD = np.repeat(self.parents_nD, 1 << (self.tree.depth - last), axis=0)
        leaf_LE = tdm_nodes.leaf_nodes(vector_LD, parent_LD, blend)
        self._plain = {self.shape.depth: torch.from_numpy(leaf_LE)}
        for level in levels:
            nodes_nE = tdm_nodes.inner_nodes(
                leaf_LE[:, :-1],
                is_there_L,
                level,
                user_D=self.gain * user_D,
                sharpness=self.config.sharpness,
            )
            self._plain[level] = torch.from_numpy(nodes_nE)

    @property
    def gain(self) -> float:
        """The learned factor of similarities."""
        return float(self.scorer.gain.detach())

    def add_leaf(self, row: int, output_D: Float32[np.ndarray, "D"]) -> None:
        """Add a video at the free leaf whose neighbours are most like it; there must be one."""
        leaf = self.tree.free_leaf(self.shape.parents, self.parents_nD @ output_D)
        assert leaf is not None, "the tree has room for the video"
        self.tree.place(row, leaf)

    def step(
        self,
        user_BD: Float32[np.ndarray, "B D"],
        leaf_B: Integer[np.ndarray, "B"],
        rng: np.random.Generator,
    ) -> float:
        """Train the network on the leaves that these users watched; return the loss.

        A step whose loss or gradient is not finite changes nothing.
        """
        users_BD = torch.from_numpy(user_BD)
        loss = torch.zeros(())
        for level, node_nE in self.nodes.items():
            right_B = leaf_B >> (self.tree.depth - level)
            there = np.flatnonzero(self.tree.is_there(level))
            if len(there) < 2:  # noqa: PLR2004 - a node without others has nothing to learn
                continue
            drawn_S = rng.choice(there, min(self.config.num_negatives, len(there)), replace=False)
            nodes_BS = np.concatenate(
                [right_B[:, None], np.tile(drawn_S, (len(leaf_B), 1))], axis=1
            )
            logits_BS = self.scorer(users_BD, node_nE[torch.from_numpy(nodes_BS)])
            is_hit_BS = torch.from_numpy(drawn_S[None, :] == right_B[:, None])
            loss = loss + level_loss(
                logits_BS[:, 0], logits_BS[:, 1:], is_hit_BS, num_others=len(there) - 1
            )
        if not loss.requires_grad:
            return 0.0
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.scorer.parameters(), 10.0)
        if torch.isfinite(loss) and torch.isfinite(norm):
            self._optimizer.step()
        return loss.item()

    def calibrate(
        self,
        user_BD: Float32[np.ndarray, "B D"],
        rng: np.random.Generator,
        *,
        share: float = 1.0,
    ) -> float:
        """Train inner nodes on the soft maximum of their leaves for these users; return the loss.

        *share* is how much of a whole calibration it is.
        """
        if not self.shape.inner or not len(self.tree) or not len(user_BD):
            return 0.0
        learned = {level: node.requires_grad_() for level, node in self._learned.items()}
        optimizer = torch.optim.Adam(learned.values(), lr=self.config.node_lr, foreach=False)
        loss = torch.zeros(())
        for _ in range(round(share * self.config.calibration_steps)):
            chosen = rng.integers(len(user_BD), size=self.config.calibration_users)
            loss = self._heap_losses(torch.from_numpy(user_BD[chosen]))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        self._learned = {level: node.detach() for level, node in learned.items()}
        return loss.item()

    def _heap_losses(self, user_BD: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        nodes, sharpness = self.nodes, self.config.sharpness
        with torch.no_grad():
            leaf_BL = self._leaf_scores(user_BD)
            num_best = min(self.config.num_best, len(self.tree))
            bar_B1 = leaf_BL.topk(num_best, dim=1).values[:, -1:]
        loss = torch.zeros(())
        for level in self.shape.inner:
            below_BnF = leaf_BL.reshape(len(user_BD), 1 << level, -1)
            best_Bn = torch.logsumexp(sharpness * below_BnF, dim=2) / sharpness
            loss = loss + heap_loss(self.scorer.of_all(user_BD, nodes[level]), best_Bn, bar_B1)
        return loss

    def _leaf_scores(self, user_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B L"]:
        is_there_L = torch.from_numpy(self.tree.is_there(self.tree.depth))
        score_BL = self.scorer.of_all(user_BD, self._plain[self.tree.depth])
        return score_BL.masked_fill(~is_there_L, -torch.inf)

    @torch.no_grad()
    def exhaustive(self, user_BD: Float32[np.ndarray, "B D"]) -> Float32[np.ndarray, "B L"]:
        """Return the score of every leaf, -inf where there is no video."""
        scores: np.ndarray = self._leaf_scores(torch.from_numpy(user_BD)).numpy()
        return scores

    @torch.no_grad()
    def search(
        self,
        user_BD: Float32[np.ndarray, "B D"],
        seen: Sequence[Int[np.ndarray, "S"]] | None = None,
    ) -> FoundLeaves:
        """Return the leaves that a beam search finds, without the rows *seen* by that user."""
        nodes, users_BD = self.nodes, torch.from_numpy(user_BD)

        def score(level: int, nodes_BM: Int64[np.ndarray, "B M"]) -> Float32[np.ndarray, "B M"]:
            scores: np.ndarray = self.scorer(users_BD, nodes[level][nodes_BM]).numpy()
            return scores

        is_out_BL = None if seen is None else self.tree.are_at(seen)
        return beam_search(
            self.tree, self.shape, score, num_users=len(user_BD), is_out_BL=is_out_BL
        )

    def state(self) -> dict[str, np.ndarray]:
        """Return everything a restart needs, by name; views, not copies."""
        tensors = {f"scorer.{name}": value for name, value in self.scorer.state_dict().items()}
        tensors |= {f"learned.{level}": node for level, node in self._learned.items()}
        tensors |= {f"plain.{level}": node for level, node in self._plain.items()}
        tensors |= moments_of(self._optimizer)
        arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
        return arrays | {
            "row_L": self.tree.row_L,
            "parents_nD": self.parents_nD,
            "levels": np.array(self.shape.levels, np.int64),
            "widths": np.array(self.shape.widths, np.int64),
        }

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: an array is missing or of another shape.
        """
        try:
            shape = Shape(tuple(arrays["levels"].tolist()), tuple(arrays["widths"].tolist()))
            taken_L = np.flatnonzero(arrays["row_L"])
            self.set_tree(tree_of(arrays["row_L"][taken_L], taken_L, shape.depth), shape)
            learned = {level: torch.tensor(arrays[f"learned.{level}"]) for level in shape.inner}
            self.parents_nD = arrays["parents_nD"].copy()
            names = self.scorer.state_dict().keys()
            self.scorer.load_state_dict({n: torch.tensor(arrays[f"scorer.{n}"]) for n in names})
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"not the state of this tree: {error}") from error
        self._learned = learned
        self._plain = {
            level: torch.tensor(arrays[f"plain.{level}"])
            for level in shape.levels
            if f"plain.{level}" in arrays
        }
        load_moments(self._optimizer, {n: torch.tensor(a) for n, a in arrays.items()})


def list_space(
    output_ND: Float[np.ndarray, "N D"],
    user_BD: Float[np.ndarray, "B D"],
    config: TdmConfig,
    rng: np.random.Generator,
    *,
    gain: float,
) -> Float32[np.ndarray, "N W"]:
    """Return videos as points, near each other where the same users would be recommended them.

    A video is first what it is to each user: 1 far above the score that makes the user's list,
    0 far below it. Of these numbers the points keep the main axes (Halko et al. 2011,
    algorithm 4.4). Two-means on them keeps together what a beam has to find together: a user's best
    hundred then stand below few parents. Users are taken some at a time, `_MOST_NUMBERS` of numbers
    at once: there are as many as fit that, and never fewer than `_MIN_LIST_USERS` of those given.
    """
    most = max(_MIN_LIST_USERS, _MOST_NUMBERS // max(len(output_ND), 1))
    num_users = max(1, min(len(user_BD), most))
    chosen_BD = gain * user_BD[rng.choice(len(user_BD), num_users, replace=False)]
    at_once = max(1, _MOST_NUMBERS // max(len(output_ND), 1))
    parts = [slice(first, first + at_once) for first in range(0, num_users, at_once)]
    random_BW = rng.normal(size=(num_users, config.list_dim)).astype(np.float32)

    def listed_NB(part: slice) -> Float32[np.ndarray, "N B"]:
        return _listed(output_ND, chosen_BD[part], config)

    range_NW = _total(listed_NB(part) @ random_BW[part] for part in parts)
    for _ in range(_POWERS):
        basis_NW = np.linalg.qr(range_NW)[0]
        range_NW = _total(block_NB @ (block_NB.T @ basis_NW) for block_NB in map(listed_NB, parts))
    basis_NW = np.linalg.qr(range_NW)[0]
    small_WW = _total(
        small_WB @ small_WB.T for small_WB in (basis_NW.T @ listed_NB(part) for part in parts)
    )
    values_W, axes_WW = np.linalg.eigh(small_WW)
    points_NW: np.ndarray = basis_NW @ (axes_WW * np.sqrt(np.maximum(values_W, 0.0)))
    return points_NW.astype(np.float32)


def _listed(
    output_ND: Float[np.ndarray, "N D"], user_BD: Float[np.ndarray, "B D"], config: TdmConfig
) -> Float32[np.ndarray, "N B"]:
    """Return what videos are to these users, 1 in their lists and 0 far from it, less the mean."""
    score_NB = (output_ND @ user_BD.T).astype(np.float32)
    num_best = min(config.num_best, len(output_ND))
    bar_B = np.partition(score_NB, len(output_ND) - num_best, axis=0)[-num_best]
    steep_NB = np.clip((score_NB - bar_B) / config.list_edge, -30.0, 30.0)
    listed_NB: np.ndarray = 1.0 / (1.0 + np.exp(-steep_NB))
    listed_NB -= listed_NB.mean(axis=0)
    return listed_NB


def _total(parts: Iterable[np.ndarray]) -> np.ndarray:
    total: np.ndarray = reduce(np.add, parts)
    return total
