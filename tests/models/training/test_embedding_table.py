"""Row-wise Adagrad, worked by hand."""

import numpy as np
import pytest
import torch

from models.training.embedding_table import EmbeddingTable


def step(table, rows, gradient):
    lookup = table.lookup(np.array(rows))
    (lookup.vectors_UD * torch.tensor(gradient)).sum().backward()
    table.update(lookup)


def test_a_step_is_the_formula():
    """Gradient (3, 4): mean square 12.5; a second one of the same: 25."""
    table = EmbeddingTable(torch.zeros(3, 2), lr=0.5)

    step(table, [1], [[3.0, 4.0]])
    step(table, [1], [[3.0, 4.0]])

    first, second = 0.5 / 12.5**0.5, 0.5 / 25**0.5
    expected = [-3.0 * (first + second), -4.0 * (first + second)]
    assert table.weight_ND[1].tolist() == pytest.approx(expected, rel=1e-5)


def test_rows_that_were_not_looked_up_stay_bit_for_bit():
    """Sparse means sparse."""
    table = EmbeddingTable(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), lr=0.5)
    before = table.weight_ND.clone()

    step(table, [2, 7], [[1.0] * 4, [2.0] * 4])

    others = [0, 1, 3, 4, 5, 6, 8]
    assert torch.equal(table.weight_ND[others], before[others])


def test_row_0_is_zero_whatever_is_learned():
    """Nothing weighs nothing."""
    table = EmbeddingTable(torch.ones(3, 2), lr=0.5)

    step(table, [0, 1], [[1.0, 1.0], [1.0, 1.0]])

    assert table.weight_ND[0].tolist() == [0.0, 0.0]


def test_growing_keeps_what_there_is_and_adds_zeros():
    """A new video has no id embedding: it is its content."""
    table = EmbeddingTable(torch.ones(3, 2), lr=0.5)

    table.grow(10)

    assert len(table.weight_ND) >= 10
    assert table.weight_ND[1].tolist() == [1.0, 1.0]
    assert not table.weight_ND[3:].any()


def test_a_rare_row_learns_nothing_before_it_was_seen_often_enough():
    """Seen twice where three are asked for, it is what it was; seen once more, it moves."""
    table = EmbeddingTable(torch.zeros(4, 2), lr=0.5, min_seen=3)
    table.see(np.array([1, 1, 1, 2, 2]))

    step(table, [1, 2], [[3.0, 4.0], [3.0, 4.0]])
    moved_first = table.weight_ND.any(dim=1).tolist()
    table.see(np.array([2]))
    step(table, [2, 3], [[3.0, 4.0], [3.0, 4.0]])

    assert moved_first == [False, True, False, False]
    assert table.weight_ND.any(dim=1).tolist() == [False, True, True, False]
