"""The losses of rankers, worked by hand."""

import math

import numpy as np
import pytest
import torch

from models.ranking import heads
from models.ranking.heads import COMPLETED, FIRST_OF_TIME, MEDIAN, SCALE_S, WATCHED


def outputs(count=1, *, head="weighted_logistic", **given):
    """Return outputs of zeros but for those that are *given* by name."""
    values = torch.zeros((count, heads.num_outputs(head)))
    for name, value in given.items():
        values[:, getattr(heads, name)] = value
    return values


def loss(values, *, watched, watch_s, completed=False, head="weighted_logistic", **options):
    count = len(values)
    return heads.loss(
        values,
        torch.tensor([watched] * count),
        torch.tensor([completed] * count),
        torch.tensor([watch_s] * count, dtype=torch.float32),
        watch_head=head,
        max_watch_s=300.0,
        **options,
    )


def test_the_loss_of_a_watch_weighs_its_watch_time():
    """Ln 2 for watched, half of it for completed, the median, and 40 s / 20 s for the odds."""
    values = outputs()
    median_s = math.log(2) * SCALE_S  # softplus of 0
    expected = math.log(2) * (1 + 0.5) + 0.5 * abs(median_s - 40) / SCALE_S
    expected += 0.5 * 2.0 * math.log(2)

    assert float(loss(values, watched=True, watch_s=40.0)) == pytest.approx(expected)


def test_the_loss_of_what_was_not_watched_weighs_one():
    values = outputs()
    expected = math.log(2) * (1 + 0.5 + 0.5) + 0.5 * math.log(2)

    assert float(loss(values, watched=False, watch_s=0.0)) == pytest.approx(expected)


def test_unweighted_watches_weigh_one():
    values = outputs(MEDIAN=math.log(math.e**2 - 1))  # softplus is 2: a median of 40 s
    expected = math.log(2) * (1 + 0.5 + 0.5)

    told = loss(values, watched=True, watch_s=40.0, is_weighted=False)

    assert float(told) == pytest.approx(expected, abs=1e-5)


def test_a_forgotten_player_weighs_no_more_than_the_cap():
    values = outputs()

    assert torch.equal(
        loss(values, watched=True, watch_s=300.0), loss(values, watched=True, watch_s=80_000.0)
    )


def test_the_correction_gives_the_mean_watch_time_of_what_is_shown():
    """Of ten shown six are watched, for 10 s each: weighted odds 60 / 4, and a mean of 6 s."""
    p, mean_s = 0.6, 10.0
    values = outputs(WATCHED=math.log(p / (1 - p)), FIRST_OF_TIME=math.log(mean_s / SCALE_S))
    nothing = torch.zeros(heads.NUM_BINS)

    corrected = heads.expected_s(values, nothing, watch_head="weighted_logistic")

    assert float(corrected) == pytest.approx(6.0)
    assert float(heads.uncorrected_s(values)) == pytest.approx(60 / 4)


def test_the_weighted_odds_are_learned():
    """By gradient descent, on the same ten."""
    t = torch.zeros(1, requires_grad=True)
    p = 0.6
    optimiser = torch.optim.Adam([t], lr=0.05)
    for _ in range(400):
        values = outputs(10, WATCHED=math.log(p / (1 - p)))
        values = torch.cat([values[:, :FIRST_OF_TIME], t.expand(10, 1)], dim=1)
        is_watched = torch.tensor([True] * 6 + [False] * 4)
        total = heads.loss(
            values,
            is_watched,
            is_watched,
            torch.where(is_watched, 10.0, 0.0),
            watch_head="weighted_logistic",
            max_watch_s=300.0,
        ).mean()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()

    assert float(torch.exp(t.detach())) * SCALE_S == pytest.approx(10.0, rel=0.01)


def test_a_sure_ranker_does_not_order_backwards():
    """The product of odds and (1 - p) underflows where both outputs are sure."""
    sure, unsure = outputs(WATCHED=60.0), outputs(WATCHED=-60.0)
    nothing = torch.zeros(heads.NUM_BINS)

    first, last = (
        float(heads.expected_s(one, nothing, watch_head="weighted_logistic"))
        for one in (sure, unsure)
    )

    assert first == pytest.approx(SCALE_S)
    assert last < 1e-6


def test_the_distribution_adds_the_loss_of_its_range():
    head = "distribution"
    values = outputs(head=head)
    without = math.log(2) * (1 + 0.5) + 0.5 * abs(math.log(2) * SCALE_S - 40) / SCALE_S

    told = float(loss(values, watched=True, watch_s=40.0, head=head))

    assert told == pytest.approx(without + 0.5 * math.log(heads.NUM_BINS), rel=1e-5)


def test_the_expected_value_of_a_distribution_is_the_mean_of_its_ranges():
    values = outputs(head="distribution")
    means = torch.arange(heads.NUM_BINS, dtype=torch.float32)

    told = float(heads.expected_s(values, means, watch_head="distribution"))

    assert told == pytest.approx((heads.NUM_BINS - 1) / 2)


def test_ranges_begin_at_zero_and_end_before_the_cap():
    edges = heads.edges_s(300.0)

    assert edges[0] == 0.0
    assert (np.diff(edges) > 0).all()
    assert edges[-1] < 300.0
    assert len({WATCHED, COMPLETED, MEDIAN, FIRST_OF_TIME}) == 4
