import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tdm import tree as tdm_tree
from models.tdm.tree import FREE, Shape, Tree, beam_search, shape_for, tree_of

few = settings(max_examples=12)


def generator(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def grown(num_items, *, depth=None, seed=0):
    """Return a tree of items 1 to *num_items*, clustered by drawn vectors."""
    rng = generator(seed)
    depth = depth or shape_for(num_items).depth
    leaves = tdm_tree.clustered_leaves(rng.normal(size=(num_items, 3)), depth, rng)
    return tree_of(np.arange(1, num_items + 1), leaves, depth)


def of_leaves(score_BL):
    """Return a scorer to which a node is worth its best leaf: a max-heap."""
    num_leaves = score_BL.shape[1]

    def score(level, nodes_BM):
        best_Bn = score_BL.reshape(len(score_BL), 1 << level, num_leaves >> level).max(axis=2)
        return np.take_along_axis(best_Bn, nodes_BM, axis=1)

    return score


@few
@given(st.integers(0, 70), st.integers(0, 2**32 - 1), st.booleans())
def test_every_item_gets_a_leaf_of_its_own(num_items, seed, is_clustered):
    """By two-means as by category, whatever the vectors and the categories are."""
    rng = generator(seed)
    depth = shape_for(num_items).depth

    if is_clustered:
        leaves = tdm_tree.clustered_leaves(rng.normal(size=(num_items, 2)).round(), depth, rng)
    else:
        categories = [str(one) for one in rng.integers(0, 5, num_items)]
        leaves = tdm_tree.category_leaves(categories, depth, rng)

    assert len(set(leaves.tolist())) == num_items
    assert ((leaves >= 0) & (leaves < 1 << depth)).all()


@few
@given(st.integers(2, 70), st.integers(0, 2**32 - 1))
def test_items_are_spread_evenly(num_items, seed):
    """Two nodes of a level never differ by more than one item: no part of the tree fills first."""
    tree = grown(num_items, seed=seed)

    for level in range(tree.depth + 1):
        counts = (tree.row_L != FREE).reshape(1 << level, -1).sum(axis=1)
        assert counts.max() - counts.min() <= 1


def test_two_means_keeps_clusters_together():
    """Four clouds of eight are the four nodes of the second level."""
    centres = np.array([[0, 0], [0, 9], [9, 0], [9, 9]], float)
    vectors = np.repeat(centres, 8, axis=0) + generator().normal(scale=0.1, size=(32, 2))

    leaves = tdm_tree.clustered_leaves(vectors, 5, generator())

    nodes = (leaves >> 3).reshape(4, 8)
    assert (nodes == nodes[:, :1]).all()
    assert len(set(nodes[:, 0].tolist())) == 4


def test_the_first_tree_keeps_categories_together():
    """Leaves of a category are next to each other, at random within."""
    categories = ["cooking", "trains"] * 4

    leaves = tdm_tree.category_leaves(categories, 3, generator())

    cooking = sorted(leaves[::2].tolist())
    assert cooking in ([0, 1, 2, 3], [4, 5, 6, 7])


@few
@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_beam_as_wide_as_the_levels_is_the_exhaustive_search(num_items, seed):
    """Then no node is left out, whatever the nodes above the leaves score."""
    tree, rng = grown(num_items, seed=seed), generator(seed)
    score_BL = rng.normal(size=(3, 1 << tree.depth))
    levels = tuple(range(tree.depth + 1))

    def score(level, nodes_BM):
        if level < tree.depth:
            return rng.normal(size=nodes_BM.shape)
        return np.take_along_axis(score_BL, nodes_BM, axis=1)

    shape = Shape(levels, tuple(1 << level for level in levels[:-1]))
    found = beam_search(tree, shape, score, num_users=3)

    expected = score_BL[:, tree.row_L != FREE]
    assert (found.score_BK == -np.sort(-expected, axis=1)).all()


@few
@given(st.integers(1, 70), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_over_a_max_heap_a_narrow_beam_finds_the_best_leaves(num_items, width, seed):
    """A beam of k nodes finds the k best leaves, in their order (paper, section 3.2)."""
    tree, rng = grown(num_items, seed=seed), generator(seed)
    score_BL = np.where(tree.row_L != FREE, rng.normal(size=(2, 1 << tree.depth)), -np.inf)
    levels = shape_for(num_items).levels

    shape = Shape(levels, (width,) * (len(levels) - 1))
    found = beam_search(tree, shape, of_leaves(score_BL), num_users=2)

    best = -np.sort(-score_BL, axis=1)[:, : min(width, num_items)]
    assert (found.score_BK[:, : best.shape[1]] == best).all()


def test_counts_every_node_that_it_scores():
    """Two at the top, all four below one of them, two leaves below each of two: ten."""
    #     level 1      0                 1
    #     level 3   0  1  2  3        4  5  6  7      goes on from 1, then from 6 and 7
    tree = tree_of(np.arange(1, 17), np.arange(16), 4)
    scores = np.arange(16.0)[None, :]

    found = beam_search(tree, Shape((1, 3, 4), (1, 2)), of_leaves(scores), num_users=1)

    assert found.num_scored_B.tolist() == [2 + 4 + 4]
    assert found.leaf_BK.tolist() == [[15, 14, 13, 12]]


def test_neither_scores_nor_counts_nodes_without_items():
    """Half of the tree is empty: its nodes are not there, and cost nothing."""
    tree = tree_of(np.array([7, 8]), np.array([0, 1]), 2)

    found = beam_search(tree, Shape((1, 2), (2,)), of_leaves(np.zeros((1, 4))), num_users=1)

    assert found.num_scored_B.tolist() == [1 + 2]
    assert found.score_BK.tolist() == [[0.0, 0.0]]


def test_videos_that_a_user_has_seen_are_neither_scored_nor_found():
    """Of four leaves the first user has seen two, the second none; each pays for the rest."""
    tree = tree_of(np.arange(1, 5), np.arange(4), 2)
    is_out = tree.are_at([[4, 2, 99], []])

    found = beam_search(
        tree,
        Shape((2,), ()),
        of_leaves(np.array([[1.0, 2, 3, 4]] * 2)),
        num_users=2,
        is_out_BL=is_out,
    )

    there = [
        leaves[scores > -np.inf].tolist()
        for leaves, scores in zip(found.leaf_BK, found.score_BK, strict=True)
    ]
    assert there == [[2, 0], [3, 2, 1, 0]]
    assert found.num_scored_B.tolist() == [2, 4]


def test_a_new_item_gets_the_most_similar_leaf_with_room():
    """The likest node is full; the next one takes it."""
    tree = tree_of(np.array([1, 2, 3]), np.array([0, 1, 2]), 2)

    assert tree.free_leaf(1, np.array([0.9, 0.1])) == 3
    tree.place(4, 3)
    assert tree.free_leaf(1, np.array([0.9, 0.1])) is None


def test_a_removed_row_leaves_its_leaf():
    """Another one may have it; who is not there may be removed again."""
    tree = tree_of(np.array([5]), np.array([1]), 1)

    tree.remove(5)
    tree.remove(5)
    tree.place(6, 1)

    assert (tree.leaf(5), tree.leaf(6), len(tree)) == (None, 1, 1)


@pytest.mark.parametrize(("row", "leaf"), [(2, 1), (1, 0), (2, 9), (2, -1)])
def test_refuses_to_place_where_it_cannot(row, leaf):
    """A taken leaf, a row that has one, a leaf that is not there."""
    tree = tree_of(np.array([1]), np.array([1]), 1)

    with pytest.raises(ValueError, match=f"row {row} cannot be placed at leaf {leaf}"):
        tree.place(row, leaf)


def test_the_search_of_a_large_catalogue_costs_less_than_a_twentieth_of_it():
    """The shape for KuaiRand's 7,583 videos, every node of it full."""
    shape = shape_for(7_583)
    tree = tree_of(np.arange(1, 7_584), generator().permutation(8_192)[:7_583], shape.depth)

    scores = generator().normal(size=(4, 8_192))
    found = beam_search(tree, shape, of_leaves(scores), num_users=4)

    assert found.num_scored_B.max() < 0.05 * 7_583
    assert found.leaf_BK.shape[1] >= 150


@pytest.mark.parametrize("num_items", [0, 1, 2, 31, 33, 1_000, 100_000])
def test_a_shape_has_room_for_its_items(num_items):
    """And one width for each level above the leaves."""
    shape = shape_for(num_items)

    assert num_items <= 1 << shape.depth
    assert len(shape.widths) == len(shape.levels) - 1


@pytest.mark.parametrize(
    ("levels", "widths"), [((), ()), ((3,), (1,)), ((3, 2), (1,)), ((2, 3), (0,)), ((-1, 2), (1,))]
)
def test_an_invalid_shape_is_rejected(levels, widths):
    """Levels rise, and every one but the last has a width."""
    with pytest.raises(ValueError, match=r"level|width"):
        Shape(levels, widths)


def test_refuses_a_search_of_another_depth():
    """The last level searched is that of the leaves."""
    with pytest.raises(ValueError, match="ends at level 3, the tree at 2"):
        beam_search(Tree(2), Shape((3,), ()), of_leaves(np.zeros((1, 4))), num_users=1)
