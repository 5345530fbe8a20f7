"""Row-wise Adagrad, worked by hand."""

import numpy as np
import pytest
import torch

from models.training.embedding_table import SIGNIFICANT_MOVE, AdagradPace, EmbeddingTable


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


def test_the_first_step_of_a_row_is_as_small_as_its_gradient():
    """From a sum of zero both would move by the same: a drawn negative as far as a label."""
    table = EmbeddingTable(torch.zeros(3, 2), lr=0.5, pace=AdagradPace(start=1e-5))

    step(table, [1, 2], [[2e-2, 2e-2], [2e-4, 2e-4]])

    label, negative = table.weight_ND[1:].norm(dim=1).tolist()
    assert label > 0.6
    assert negative < 0.05


def test_steps_stay_long_enough_to_follow_a_change():
    """After 100,000 updates of a decaying sum a row still moves; of one that only grows, hardly."""
    moved = {}
    for decay in (0.99, 1.0):
        table = EmbeddingTable(torch.zeros(2, 1), lr=0.5, pace=AdagradPace(decay=decay))
        table.moment_N[1] = 1e5 if decay == 1.0 else 1 / (1 - decay)  # what 100,000 of 1 come to
        before = table.weight_ND[1].clone()
        step(table, [1], [[1.0]])
        moved[decay] = abs(float(table.weight_ND[1] - before))

    assert moved[0.99] == pytest.approx(0.5 / 101**0.5, rel=0.01)
    assert moved[1.0] < 0.002


def test_the_gradient_of_a_row_is_clipped_before_it_is_remembered():
    """One huge gradient must not end the learning of its row."""
    table = EmbeddingTable(torch.zeros(2, 2), lr=0.5, pace=AdagradPace(max_grad_norm=1.0))

    step(table, [1], [[3e9, 4e9]])

    assert float(table.moment_N[1]) == pytest.approx(0.5)


def test_rows_that_are_not_finite_are_reset_and_told_as_moved():
    """Weights or sums; all others stay."""
    table = EmbeddingTable(torch.ones(5, 2), lr=0.5)
    table.weight_ND[2, 1] = torch.nan
    table.moment_N[3] = torch.inf

    broken = table.reset_broken()

    assert broken.tolist() == [2, 3]
    assert table.weight_ND.sum(dim=1).tolist() == [0.0, 2.0, 0.0, 0.0, 2.0]
    assert table.take_moved().tolist() == [2, 3]


def test_rows_are_told_once_after_they_have_moved_far_enough():
    """Small steps add up; a row that is told begins anew."""
    table = EmbeddingTable(torch.zeros(3, 1), lr=SIGNIFICANT_MOVE / 2)
    step(table, [1], [[1.0]])
    assert table.take_moved().tolist() == []

    for _ in range(3):
        step(table, [1], [[1.0]])

    assert table.take_moved().tolist() == [1]
    assert table.take_moved().tolist() == []


def test_rows_expire_when_they_were_not_seen_for_long():
    """One seen before times were kept starts to age now; one never seen has nothing to lose."""
    table = EmbeddingTable(torch.ones(4, 1), lr=0.5)
    table.see(np.array([1, 2, 3]))
    table.refresh(np.array([1]), now_ms=1_000)
    table.refresh(np.array([2]), now_ms=5_000)

    assert table.expire(now_ms=6_000, after_ms=5_000).tolist() == [1]
    assert table.weight_ND[:, 0].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert table.expire(now_ms=11_000, after_ms=5_000).tolist() == [2, 3]


def test_a_table_of_0_2_is_read():
    """It knew no times and counted no moves."""
    table = EmbeddingTable(torch.ones(3, 1), lr=0.5)
    saved = {name: table.state()[name] for name in ("weight_ND", "moment_N", "seen_N")}

    table.load_state(saved)

    assert table.state()["moved_N"].tolist() == [0.0, 0.0, 0.0]


def test_small_gradients_let_nothing_decay():
    """Drawn as a negative a thousand times, a row keeps what its labels have summed up."""
    table = EmbeddingTable(torch.zeros(2, 2), lr=0.5, pace=AdagradPace(decay=0.95, start=1e-5))
    step(table, [1], [[2e-2, 2e-2]])
    after_label = float(table.moment_N[1])

    for _ in range(1_000):
        step(table, [1], [[1e-4, 1e-4]])

    assert float(table.moment_N[1]) == pytest.approx(after_label, rel=0.1)
