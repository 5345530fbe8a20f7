import math

import numpy as np
import pytest
import torch

from models.tdm import nodes as tdm_nodes
from models.tdm.model import TreeModel, list_space
from models.tdm.scorer import NodeScorer, TdmConfig, heap_loss, level_loss
from models.tdm.tree import Shape
from tests.models.trees import SMALL, generator, model_of, unit, users, videos


def test_the_loss_of_a_level_is_the_softmax_worked_by_hand():
    """Two drawn for nine others: each of them stands for 4.5."""
    loss = level_loss(
        torch.tensor([1.0]), torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2, dtype=torch.bool), 9
    )

    others = 4.5 * (1 + math.exp(2))
    assert loss.item() == pytest.approx(-math.log(math.e / (math.e + others)))


def test_the_right_node_drawn_by_accident_does_not_count():
    """Then the one that is left stands for all nine others."""
    loss = level_loss(
        torch.tensor([1.0]), torch.tensor([[1.0, 2.0]]), torch.tensor([[True, False]]), 9
    )

    others = 9 * math.exp(2)
    assert loss.item() == pytest.approx(-math.log(math.e / (math.e + others)))


def test_the_heap_loss_is_worked_by_hand():
    """Weights sigmoid(best - bar): 1/2 at the bar, next to nothing far below it."""
    loss = heap_loss(
        torch.tensor([[3.0, 7.0]]), torch.tensor([[1.0, -60.0]]), torch.tensor([[1.0]])
    )

    far = 1 / (1 + math.exp(61))
    assert loss.item() == pytest.approx((0.5 * 4 + far * 67**2) / (0.5 + far))


def test_nodes_without_videos_have_no_part_in_the_heap_loss():
    """Their best leaf is -inf: neither loss nor gradient is touched by it."""
    score = torch.tensor([[3.0, 7.0]], requires_grad=True)

    loss = heap_loss(score, torch.tensor([[1.0, -torch.inf]]), torch.tensor([[1.0]]))
    torch.autograd.backward(loss)

    assert loss.item() == pytest.approx(4.0)
    assert score.grad.tolist() == [[4.0, 0.0]]


def test_the_scorer_starts_as_gain_times_similarity_plus_bias():
    """What it learns is added from nothing."""
    scorer = NodeScorer(2, 4, gain=5.0)
    user, node = torch.tensor([[0.6, 0.8]]), torch.tensor([[[1.0, 0.5, 2.0]]])

    assert scorer(user, node).item() == pytest.approx(5 * (0.6 + 0.4) + 2)


def test_the_same_nodes_for_everybody_score_alike_by_matrix_products():
    """`of_all` is `forward`, for a scorer that has learned something."""
    scorer = NodeScorer(8, 4, gain=3.0)
    torch.nn.init.normal_(scorer.out.weight)
    user, nodes = torch.from_numpy(users(3)), torch.randn(11, 9)

    one_by_one = scorer(user, nodes.expand(3, -1, -1))

    assert torch.allclose(scorer.of_all(user, nodes), one_by_one, atol=1e-5)


def test_leaves_are_drawn_towards_the_mean_of_their_neighbours():
    """Half way: (1, 0) and (0, 1) meet at (.5, .5); the free leaf beside the third is left out."""
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [0.0, 0.0]])

    parents = tdm_nodes.parent_means(vectors, np.array([True, True, True, False]), 1)
    leaves = tdm_nodes.leaf_nodes(vectors[:2], parents[[0, 0]], 0.5)

    assert parents.tolist() == [[0.5, 0.5], [2.0, 2.0]]
    assert leaves.tolist() == [[0.75, 0.25, 0.0], [0.25, 0.75, 0.0]]


def test_an_inner_node_is_the_soft_maximum_of_its_leaves_at_the_mean_user():
    """log(e^(2 s1) + e^(2 s2)) / 2 for scores s1 = 1 and s2 = 3, with the leaves' mean as slope."""
    vectors, user = np.array([[1.0, 0.0], [3.0, 1.0]]), np.array([1.0, 0.0])

    nodes = tdm_nodes.inner_nodes(vectors, np.ones(2, bool), 0, user_D=user, sharpness=2.0)

    first, second = math.exp(2), math.exp(6)
    share = second / (first + second)
    assert nodes[0, :2] == pytest.approx([1 + 2 * share, share])
    assert nodes[0, :2] @ user + nodes[0, 2] == pytest.approx(math.log(first + second) / 2)


def test_nodes_without_leaves_are_zeros():
    """Some, or all of them."""
    vectors = np.ones((4, 2))

    some = tdm_nodes.inner_nodes(
        vectors, np.array([True, True, False, False]), 1, user_D=np.ones(2), sharpness=1.0
    )
    none = tdm_nodes.inner_nodes(vectors, np.zeros(4, bool), 1, user_D=np.ones(2), sharpness=1.0)

    assert some[0].any()
    assert not some[1].any()
    assert not none.any()


def test_videos_of_the_same_lists_are_points_beside_each_other():
    """Two kinds of users, two kinds of videos: where the kinds differ, all of the distance is."""
    kinds = unit(np.array([[1.0, 1, 0, 0], [1.0, -1, 0, 0]]))
    people = np.repeat(kinds, 30, axis=0)
    outputs = np.repeat(kinds, 20, axis=0) + 0.01 * generator().normal(size=(40, 4))
    config = TdmConfig(num_best=20, list_dim=4, list_edge=10.0)

    points = list_space(outputs, people, config, generator(), gain=50.0)

    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    within = max(apart[:20, :20].max(), apart[20:, 20:].max())
    assert points.shape == (40, 4)
    assert within < 0.1 * apart[:20, 20:].min()


def test_a_planted_pattern_is_learned():
    """Users of two kinds watch two kinds of videos, against what their vectors say."""
    outputs, rng = videos(40), generator()
    kinds = unit(np.array([[1.0, 1, 0, 0, 0, 0, 0, 0], [1.0, -1, 0, 0, 0, 0, 0, 0]]))
    model = model_of(outputs, kinds, TdmConfig(hidden_dim=8, num_negatives=32, lr=0.05), gain=0.0)
    half = np.argsort(outputs[1:] @ (kinds[0] - kinds[1]))
    liked = [half[:20] + 1, half[20:] + 1]  # the first kind likes what is least like it

    losses = []
    for _ in range(60):
        kind = rng.integers(2, size=32)
        rows = np.array([rng.choice(liked[one]) for one in kind])
        losses.append(model.step(kinds[kind], model.tree.leaves(rows.tolist()), rng))

    found = model.search(kinds)
    best = model.tree.row_L[found.leaf_BK[:, :10]]
    hits = [np.isin(best[kind], liked[kind]).mean() for kind in (0, 1)]
    assert np.mean(losses[-5:]) < 0.85 * losses[0]
    assert min(hits) >= 0.9


def test_calibration_makes_nodes_worth_what_their_leaves_are():
    """The loss falls, and the beam finds about as much of what an exhaustive search finds."""
    outputs, people = videos(600), users(200)
    model = model_of(outputs, people, gain=8.0)
    before = overlap(model, users(40, seed=2))
    start = model._heap_losses(torch.from_numpy(people)).item()

    after_loss = model.calibrate(people, generator())

    assert after_loss < 0.7 * start
    assert overlap(model, users(40, seed=2)) > before - 0.01


def overlap(model, people):
    """Return the share of the 20 best leaves of all that a beam finds."""
    best = np.argsort(-model.exhaustive(people), axis=1)[:, :20]
    found = model.search(people).leaf_BK
    return np.mean([np.isin(mine, theirs).mean() for mine, theirs in zip(best, found, strict=True)])


def test_what_a_beam_scores_is_what_the_exhaustive_search_scores():
    """The same number for the same leaf."""
    model, people = model_of(videos(300), users(50)), users(4)

    found, scores = model.search(people), model.exhaustive(people)

    at_leaves = np.take_along_axis(scores, found.leaf_BK, axis=1)
    assert found.score_BK == pytest.approx(at_leaves, abs=1e-4)


def test_a_newcomer_is_found_at_once():
    """It gets a leaf among its likes, and comes first for a user who is like it."""
    outputs, people = videos(100), users(50)
    model = model_of(outputs, people, TdmConfig(blend=0.0))
    newcomer = unit(outputs[7] + 0.1 * outputs[8])
    outputs = np.concatenate([outputs, newcomer[None]])

    model.add_leaf(101, newcomer)
    model.refresh(outputs, people.mean(axis=0))

    found = model.search(newcomer[None])
    assert model.tree.row_L[found.leaf_BK[0, 0]] == 101


def test_the_state_is_restored_exactly():
    """Scores and further steps are the same, bit for bit."""
    outputs, people = videos(60), users(50)
    model, rng = model_of(outputs, people), generator()
    leaves = model.tree.leaves([1, 2, 3])
    model.step(people[:3], leaves, rng)
    model.calibrate(people, rng)

    copy = TreeModel(SMALL, 8, gain=1.0, seed=9)
    copy.load_state({name: array.copy() for name, array in model.state().items()})

    for one in (model, copy):
        one.step(people[:3], leaves, generator(4))
    assert (copy.exhaustive(people) == model.exhaustive(people)).all()
    assert (copy.search(people).score_BK == model.search(people).score_BK).all()


def test_refuses_a_state_that_is_not_whole():
    """Named, not a KeyError from within."""
    model = model_of(videos(60), users(50))
    arrays = model.state()
    del arrays["scorer.gain"]

    with pytest.raises(ValueError, match="not the state of this tree"):
        model.load_state(arrays)


def test_an_empty_tree_learns_nothing():
    """Nothing to be found and nothing to be told apart."""
    model = TreeModel(SMALL, 8, gain=1.0, seed=0)
    model.refresh(videos(0), users(1)[0])

    assert model.step(users(0), np.zeros(0, np.int64), generator()) == 0.0
    assert model.calibrate(users(5), generator()) == 0.0
    assert model.shape == Shape((1,), ())


@pytest.mark.parametrize("wrong", [{"blend": 1.1}, {"sharpness": 0.0}, {"list_edge": 0.0}])
def test_refuses_settings_that_mean_nothing(wrong):
    """With the bound and what was given."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TdmConfig(**wrong)


def test_a_large_catalogue_is_ordered_by_hundreds_of_users(monkeypatch):
    """A part of the users at a time, so that memory stays bounded, gives the same points."""
    rng = np.random.default_rng(0)
    output_ND = rng.normal(size=(300, 8)).astype(np.float32)
    user_BD = rng.normal(size=(64, 8)).astype(np.float32)
    points = []
    for most_numbers in (1 << 24, 300 * 7):
        monkeypatch.setattr("models.tdm.model._MOST_NUMBERS", most_numbers)
        config = TdmConfig(list_dim=8, num_best=20)
        draw = np.random.Generator(np.random.PCG64(1))
        points.append(list_space(output_ND, user_BD, config, draw, gain=5.0))

    whole, in_parts = (one @ one.T for one in points)
    np.testing.assert_allclose(in_parts, whole, rtol=1e-2, atol=1e-2 * np.abs(whole).max())
