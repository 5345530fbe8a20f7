"""Build the tree of TDM, a complete binary tree of items, and search it by beams.

A node is named by its number within its level: the children of node *n* are *2n* and *2n + 1*,
so an item's ancestors are its leaf with bits cut off, and the tree needs no memory but the
leaves. Items are spread evenly: every node has room left for newcomers if the tree has any.

A search need not stop at every level. `Shape` says at which levels nodes are scored and how
many of the best are gone on from: a step over two levels opens four descendants of each.
Every scored node is counted, since that is what a search costs.

Source:
    Zhu et al., Learning Tree-based Deep Model for Recommender Systems, KDD 2018,
    https://arxiv.org/abs/1801.02294, sections 3.1 and 3.3
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from jaxtyping import Bool, Float, Int64, Integer

# Shape legend: N = items, B = users, M = nodes looked at of each user, m = those of them that are
# scored, R = rows of one user, K = leaves found,
# L = leaves, n = nodes of a level, D = width of a vector.

FREE = 0
"""What stands at a leaf without an item; items are rows, from 1 on."""

Scorer = Callable[[int, Int64[np.ndarray, "B M"]], Float[np.ndarray, "B M"]]
"""Returns the scores of nodes of one level, a row of them for each user."""

_TWO_MEANS_STEPS = 6
_STEP = 2
_FIRST_LEVEL = 5
_WIDTHS = (42, 25, 13, 8)
_ROOM = 1.05


class Shape(msgspec.Struct, frozen=True):
    """The levels at which a beam search scores nodes, and how many it keeps at each.

    The last of *levels* is that of the leaves; *widths* has one number for each level before it.
    """

    levels: tuple[int, ...]
    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.levels or len(self.widths) != len(self.levels) - 1:
            raise ValueError(f"each level but the last has a width, got {self}")
        if list(self.levels) != sorted(set(self.levels)) or self.levels[0] < 0:
            raise ValueError(f"levels must rise from 0 or above, got {self.levels}")
        if min(self.widths, default=1) < 1:
            raise ValueError(f"widths must be at least 1, got {self.widths}")

    @property
    def depth(self) -> int:
        """The level of the leaves."""
        return self.levels[-1]

    @property
    def inner(self) -> tuple[int, ...]:
        """The levels above the leaves."""
        return self.levels[:-1]

    @property
    def parents(self) -> int:
        """The lowest inner level; that of the leaves where there is no inner level."""
        return self.levels[-2:][0]


def shape_for(num_items: int) -> Shape:
    """Return the shape for a catalogue of *num_items*, with a little room to grow.

    Every second level, from one of at most 32 nodes; the beam widens downwards. For the 7,583
    videos of KuaiRand it scores 4.7 % of them, 377 at most (``python -m benchmarks.tdm``).
    """
    depth = max(1, int(num_items * _ROOM).bit_length())
    levels = tuple(sorted(range(depth, _FIRST_LEVEL - _STEP, -_STEP)))
    levels = levels or (depth,)
    widths = [*_WIDTHS, *[_WIDTHS[-1]] * len(levels)][: len(levels) - 1]
    return Shape(levels, tuple(reversed(widths)))


@dataclass(frozen=True, slots=True)
class FoundLeaves:
    """What a search found of each user: leaves by falling score, -inf where there is nothing."""

    leaf_BK: Int64[np.ndarray, "B K"]
    score_BK: Float[np.ndarray, "B K"]
    num_scored_B: Int64[np.ndarray, "B"]


class Tree:
    """The row at each leaf."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.row_L = np.full(1 << depth, FREE, np.int64)
        self._leaf_of: dict[int, int] = {}
        self._there: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._leaf_of)

    def place(self, row: int, leaf: int) -> None:
        """Put *row* at a free *leaf*.

        Raises:
            ValueError: there is no such leaf, it is taken, or the row has one already.
        """
        if not 0 <= leaf < len(self.row_L) or self.row_L[leaf] != FREE or row in self._leaf_of:
            raise ValueError(f"row {row} cannot be placed at leaf {leaf}")
        self.row_L[leaf] = row
        self._leaf_of[row] = leaf
        self._there.clear()

    def remove(self, row: int) -> None:
        """Free the leaf of *row*; a row without a leaf is ignored."""
        leaf = self._leaf_of.pop(row, None)
        if leaf is not None:
            self.row_L[leaf] = FREE
            self._there.clear()

    def leaf(self, row: int) -> int | None:
        """Return the leaf of *row*."""
        return self._leaf_of.get(row)

    def leaves(self, rows: Sequence[int]) -> Int64[np.ndarray, "N"]:
        """Return the leaf of each row; all of them must have one."""
        return np.array([self._leaf_of[row] for row in rows], np.int64)

    def is_there(self, level: int) -> Bool[np.ndarray, "n"]:
        """Return which nodes of *level* have any item below them."""
        if level not in self._there:
            self._there[level] = (self.row_L != FREE).reshape(1 << level, -1).any(axis=1)
        return self._there[level]

    def are_at(
        self, rows: Sequence[Integer[np.ndarray, "R"] | Sequence[int]]
    ) -> Bool[np.ndarray, "B L"]:
        """Return which leaves hold one of a user's *rows*; rows without a leaf are nowhere."""
        is_there_BL = np.zeros((len(rows), len(self.row_L)), np.bool_)
        leaf_of = self._leaf_of
        for is_there_L, mine in zip(is_there_BL, rows, strict=True):
            is_there_L[[leaf_of[row] for row in map(int, mine) if row in leaf_of]] = True
        return is_there_BL

    def free_leaf(self, level: int, likeness_n: Float[np.ndarray, "n"]) -> int | None:
        """Return a free leaf below the most similar node of *level* that has one, or None."""
        is_free_nL = (self.row_L == FREE).reshape(1 << level, -1)
        has_room_n = is_free_nL.any(axis=1)
        if not has_room_n.any():
            return None
        node = int(np.where(has_room_n, likeness_n, -np.inf).argmax())
        free_leaf: int = node * is_free_nL.shape[1] + int(is_free_nL[node].argmax())
        return free_leaf


def tree_of(rows_N: Integer[np.ndarray, "N"], leaf_N: Integer[np.ndarray, "N"], depth: int) -> Tree:
    """Return the tree with these rows at these leaves.

    Raises:
        ValueError: a row or a leaf is given twice, or a leaf is not in the tree.
    """
    tree = Tree(depth)
    for row, leaf in zip(rows_N.tolist(), leaf_N.tolist(), strict=True):
        tree.place(row, leaf)
    return tree


def category_leaves(
    categories: Sequence[str], depth: int, rng: np.random.Generator
) -> Int64[np.ndarray, "N"]:
    """Return a leaf for each item: categories in random order, at random within (section 3.3)."""
    num_items = len(categories)
    _, number_N = np.unique(np.array(categories, str), return_inverse=True)
    place_of = rng.permutation(int(number_N.max(initial=0)) + 1)
    order_N = np.lexsort((rng.random(num_items), place_of[number_N]))
    leaf_N = np.empty(num_items, np.int64)
    leaf_N[order_N] = (np.arange(num_items) << depth) // max(num_items, 1)
    return leaf_N


def clustered_leaves(
    vectors_ND: Float[np.ndarray, "N D"], depth: int, rng: np.random.Generator
) -> Int64[np.ndarray, "N"]:
    """Return a leaf for each item, by two-means that halve the items of every node.

    Halving takes the items in the order of how much nearer they are to one centre than to
    the other (section 3.3).
    """
    leaf_N = np.zeros(len(vectors_ND), np.int64)
    waiting = [(np.arange(len(vectors_ND)), 0, depth)]
    while waiting:
        items, first_leaf, levels = waiting.pop()
        if len(items) <= 2:  # noqa: PLR2004 - two go either way: half of all nodes
            leaf_N[items] = first_leaf + (np.arange(len(items)) << max(levels - 1, 0))
            continue
        ordered = items[np.argsort(_preference(vectors_ND[items], rng), kind="stable")]
        half = len(items) // 2
        waiting.append((ordered[:half], first_leaf, levels - 1))
        waiting.append((ordered[half:], first_leaf + (1 << (levels - 1)), levels - 1))
    return leaf_N


def _preference(
    vectors_ND: Float[np.ndarray, "N D"], rng: np.random.Generator
) -> Float[np.ndarray, "N"]:
    """Return how much nearer each vector is to the second of two centres than to the first."""
    first_D, second_D = vectors_ND[rng.choice(len(vectors_ND), 2, replace=False)]
    half = len(vectors_ND) // 2
    for _ in range(_TWO_MEANS_STEPS):
        # |x - a|^2 - |x - b|^2 but for what is the same for every x, which halving ignores
        order_N = np.argpartition(vectors_ND @ (second_D - first_D), half)
        first_D = vectors_ND[order_N[:half]].mean(axis=0)
        second_D = vectors_ND[order_N[half:]].mean(axis=0)
    preference_N: np.ndarray = vectors_ND @ (second_D - first_D)
    return preference_N


def beam_search(
    tree: Tree,
    shape: Shape,
    score: Scorer,
    *,
    num_users: int,
    is_out_BL: Bool[np.ndarray, "B L"] | None = None,
) -> FoundLeaves:
    """Return the leaves that a beam ends at, best first, with the cost of each user's search.

    With widths as large as the levels it finds what the exhaustive search finds. Nodes without
    items are neither gone on from, where there are others, nor counted. Of the leaves that a beam
    comes to, those that are out for the user (watched already) are neither scored nor counted.

    Raises:
        ValueError: *shape* is of a tree of another depth.
    """
    if shape.depth != tree.depth:
        raise ValueError(f"the search ends at level {shape.depth}, the tree at {tree.depth}")
    nodes_BM = np.tile(np.arange(1 << shape.levels[0]), (num_users, 1))
    num_scored_B = np.zeros(num_users, np.int64)
    for level, next_level, width in zip(shape.inner, shape.levels[1:], shape.widths, strict=True):
        score_BM, is_there_BM = _scored(tree, level, nodes_BM, score)
        num_scored_B += is_there_BM.sum(axis=1)
        kept = min(width, nodes_BM.shape[1])
        best_BW = np.argpartition(-score_BM, kept - 1, axis=1)[:, :kept]
        fan = 1 << (next_level - level)
        first_BW = np.take_along_axis(nodes_BM, best_BW, 1) * fan
        nodes_BM = (first_BW[:, :, None] + np.arange(fan)).reshape(num_users, kept * fan)
    nodes_BM, is_there_BM = _packed(tree, nodes_BM, is_out_BL)
    score_BM = np.where(is_there_BM, score(shape.depth, nodes_BM), -np.inf)
    order_BM = np.argsort(-score_BM, axis=1, kind="stable")
    return FoundLeaves(
        np.take_along_axis(nodes_BM, order_BM, 1),
        np.take_along_axis(score_BM, order_BM, 1),
        num_scored_B + is_there_BM.sum(axis=1),
    )


def _packed(
    tree: Tree, nodes_BM: Int64[np.ndarray, "B M"], is_out_BL: Bool[np.ndarray, "B L"] | None
) -> tuple[Int64[np.ndarray, "B m"], Bool[np.ndarray, "B m"]]:
    """Return the leaves to score in front, in as few columns as they need, and which they are."""
    is_there_BM = tree.is_there(tree.depth)[nodes_BM]
    if is_out_BL is not None:
        is_there_BM &= ~np.take_along_axis(is_out_BL, nodes_BM, axis=1)
    most = max(1, int(is_there_BM.sum(axis=1).max(initial=0)))
    order_Bm = np.argsort(~is_there_BM, axis=1, kind="stable")[:, :most]
    return np.take_along_axis(nodes_BM, order_Bm, 1), np.take_along_axis(is_there_BM, order_Bm, 1)


def _scored(
    tree: Tree, level: int, nodes_BM: Int64[np.ndarray, "B M"], score: Scorer
) -> tuple[Float[np.ndarray, "B M"], Bool[np.ndarray, "B M"]]:
    is_there_BM = tree.is_there(level)[nodes_BM]
    return np.where(is_there_BM, score(level, nodes_BM), -np.inf), is_there_BM
