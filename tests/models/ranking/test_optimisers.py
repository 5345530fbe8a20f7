"""How the weights of a ranker learn, worked by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from models.ranking.optimisers import DECAY, START, RankerOptimiser


@pytest.fixture
def network():
    return nn.Linear(1, 1)


@pytest.fixture
def table():
    table = nn.Embedding(4, 2, sparse=True)
    nn.init.ones_(table.weight)
    return table


@pytest.fixture
def optimiser(network, table):
    return RankerOptimiser(network, table, dense_lr=0.1, table_lr=0.02)


def of_row(table, row):
    return table(torch.tensor([row])).sum()


def test_a_row_moves_by_its_gradient_over_the_root_of_its_sum(optimiser, table):
    optimiser.step(3.0 * of_row(table, 1), num_examples=1)
    sum_of_squares = START * DECAY + 9.0
    expected = 1.0 - 0.02 * 3.0 / np.sqrt(sum_of_squares)
    assert table.weight[1].tolist() == pytest.approx([expected, expected])


def test_a_row_that_was_not_looked_up_stays_as_it_is(optimiser, table):
    optimiser.step(of_row(table, 1), num_examples=1)
    assert table.weight[[0, 2, 3]].tolist() == [[1.0, 1.0]] * 3


def test_a_step_counts_the_gradient_of_all_examples_and_not_their_mean(optimiser, table):
    optimiser.step(of_row(table, 1) / 64, num_examples=64)
    expected = 1.0 - 0.02 / np.sqrt(START * DECAY + 1.0)
    assert table.weight[1, 0].item() == pytest.approx(expected)


def test_steps_do_not_shrink_to_nothing_in_a_trainer_that_never_ends(optimiser, table):
    for _ in range(20_000):
        before = table.weight[1, 0].item()
        optimiser.step(of_row(table, 1), num_examples=1)
    moved = before - table.weight[1, 0].item()
    assert moved == pytest.approx(0.02 * np.sqrt(1.0 - DECAY), rel=0.05)


def test_a_loss_that_is_not_finite_changes_nothing(optimiser, table, network):
    before = network.weight.item()
    optimiser.step(of_row(table, 1) * float("nan"), num_examples=1)
    assert table.weight.eq(1.0).all()
    assert network.weight.item() == before


def test_new_rows_of_a_table_start_with_the_least_sum_and_old_ones_keep_theirs(optimiser, table):
    optimiser.step(of_row(table, 1), num_examples=1)
    larger = nn.Embedding(8, 2, sparse=True)
    optimiser.grow(table.weight, larger.weight)
    sums = optimiser.state()["sums.0"]
    assert sums[1, 0] == pytest.approx(START * DECAY + 1.0)
    assert sums[4:].min() == sums[4:].max() == np.float32(START)


def test_a_restored_optimiser_goes_on_bit_for_bit(optimiser, table, network):
    optimiser.step(of_row(table, 1) + network(torch.ones(1, 1)).sum(), num_examples=1)
    other_network, other_table = nn.Linear(1, 1), nn.Embedding(4, 2, sparse=True)
    other_network.load_state_dict(network.state_dict())
    other_table.load_state_dict(table.state_dict())
    other = RankerOptimiser(other_network, other_table, dense_lr=0.1, table_lr=0.02)
    other.load_state(optimiser.state())
    for one, net, rows in ((optimiser, network, table), (other, other_network, other_table)):
        one.step(of_row(rows, 1) + net(torch.ones(1, 1)).sum(), num_examples=1)
    assert torch.equal(table.weight, other_table.weight)
    assert torch.equal(network.weight, other_network.weight)
