"""The losses of retrieval, against their formulas worked by hand."""

import dataclasses
import math

import pytest
import torch

from models.training.config import TowerConfig
from models.training.losses import (
    LOSSES,
    bpr_max,
    gbce,
    loss_of,
    nce,
    plain_softmax,
    sampled_softmax,
    sampling_rate,
    self_normalised,
)


def arguments(logits, labels, *, q, hits=None):
    logits = torch.tensor(logits)
    hits = torch.zeros(logits.shape, dtype=torch.bool) if hits is None else torch.tensor(hits)
    return logits, torch.tensor(labels), torch.log(torch.tensor(q)), hits


def value(loss, logits, labels, *, q=None, hits=None, **options):
    q = q or [1.0] * len(logits[0])
    return loss(*arguments(logits, labels, q=q, hits=hits), **options).item()


def loss_value(logits, labels, **others):
    return value(sampled_softmax, logits, labels, **others)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.fixture(params=sorted(LOSSES))
def any_loss(request):
    return loss_of(TowerConfig(loss=request.param))


def test_the_loss_is_the_formula():
    """The log-probability of being a candidate comes off every logit, the label's too."""
    # Corrected logits: [[1 - log .8, 0 - log .2], [0 - log .8, 2 - log .2]]; with 1 in place of 2
    # the two rows would mirror each other, and a wrong sign of log q would not be seen.
    first = math.log(math.e / 0.8) - math.log(math.e / 0.8 + 1 / 0.2)
    second = math.log(math.e**2 / 0.2) - math.log(1 / 0.8 + math.e**2 / 0.2)

    loss = loss_value([[1.0, 0.0], [0.0, 2.0]], [0, 1], q=[0.8, 0.2])

    assert loss == pytest.approx(-(first + second) / 2)


def test_a_constant_on_all_logits_changes_no_softmax():
    """Softmax is blind to it, so a common factor in q is too."""
    assert loss_value([[1.0, 0.0]], [0], q=[0.1, 0.2]) == pytest.approx(
        loss_value([[6.0, 5.0]], [0], q=[0.4, 0.8])
    )


def test_without_correction_q_is_not_read():
    """The ablation's other arm."""
    assert value(plain_softmax, [[1.0, 0.0]], [0], q=[0.1, 0.9]) == pytest.approx(
        math.log(1 + math.exp(-1))
    )


def test_nce_separates_the_label_from_noise():
    """Logistic losses of logit - log(k q): label up, others down, summed."""
    # logits 1 and -1, k q = .5 and 2
    hand = -math.log(sigmoid(1 - math.log(0.5))) - math.log(1 - sigmoid(-1 - math.log(2.0)))

    assert value(nce, [[1.0, -1.0]], [0], q=[0.5, 2.0]) == pytest.approx(hand)


def test_nce_is_least_where_the_logits_are_log_probabilities():
    """With users who watch [.7, .3] and noise [.5, .5] twice, no gradient is left there."""
    logit_2 = torch.log(torch.tensor([0.7, 0.3])).requires_grad_()
    log_q_2 = torch.zeros(2)

    for label, share in enumerate((0.7, 0.3)):
        no_hit = torch.zeros(1, 2, dtype=torch.bool)
        loss = nce(logit_2[None], torch.tensor([label]), log_q_2, no_hit)
        # the label is drawn as noise, too: one column for each video leaves that out
        (share * (loss + torch.nn.functional.softplus(logit_2[label]))).backward()

    assert logit_2.grad.tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_normalised_logits_are_blind_to_a_constant():
    """What bounded inner products lack to be log-probabilities is taken from the sample."""
    # log Z = log(e + 1 / .25): the label is there for certain, the other stands for four
    log_z = math.log(math.e + 1 / 0.25)
    hand = value(nce, [[1 - log_z, -log_z]], [0], q=[0.5, 0.25])

    for shift in (0.0, 5.0):
        logits = [[1.0 + shift, shift]]
        assert value(self_normalised(nce), logits, [0], q=[0.5, 0.25]) == pytest.approx(hand)


def test_gbce_is_the_label_to_the_power_of_beta():
    """Two of ten videos, t = 1/2: beta = .2 (.5 (1 - 5) + 5) = .6."""
    hand = -(0.6 * math.log(sigmoid(1.0)) + math.log(1 - sigmoid(-0.5))) / 2

    loss = value(gbce, [[1.0, -0.5]], [0], q=[0.2, 0.2], calibration=0.5)

    assert loss == pytest.approx(hand)


def test_gbce_without_calibration_is_binary_cross_entropy():
    """Calibration t = 0."""
    hand = -(math.log(sigmoid(1.0)) + math.log(1 - sigmoid(-0.5))) / 2

    loss = value(gbce, [[1.0, -0.5]], [0], q=[0.2, 0.2], calibration=0.0)

    assert loss == pytest.approx(hand)


def test_the_sampling_rate_is_the_share_of_the_catalogue():
    """Columns of q .5, .25, .25 stand for 2 + 4 + 4 videos."""
    assert sampling_rate(torch.log(torch.tensor([0.5, 0.25, 0.25]))).item() == pytest.approx(0.3)


def test_bpr_max_is_the_formula():
    """Negatives weigh by their own softmax; their squares are held down by it too."""
    # r = 1 against [0, 2]: s = [1, e^2] / (1 + e^2)
    weights = [1 / (1 + math.e**2), math.e**2 / (1 + math.e**2)]
    won = weights[0] * sigmoid(1.0) + weights[1] * sigmoid(-1.0)
    hand = -math.log(won) + 0.1 * weights[1] * 4.0

    loss = value(bpr_max, [[1.0, 0.0, 2.0]], [0], regularisation=0.1)

    assert loss == pytest.approx(hand)


def test_an_example_without_negatives_teaches_bpr_max_nothing():
    """Where everything else is masked the loss is 0, and so is its gradient."""
    logits, *rest = arguments([[1.0, 0.5]], [0], q=[1.0, 1.0], hits=[[False, True]])
    logits.requires_grad_()

    loss = bpr_max(logits, *rest, regularisation=0.1)
    loss.backward()

    assert loss.item() == 0.0
    assert logits.grad.tolist() == [[0.0, 0.0]]


def test_an_accidental_hit_weighs_nothing(any_loss):
    """With the watched video masked the gradient is that of the other columns alone."""
    hits = [[False, True, False]]
    q = [0.5, 0.5, 0.5]
    low, high = (
        arguments([[1.0, x, 0.5]], [0], q=q, hits=hits)[0].requires_grad_() for x in (-9.0, 2.0)
    )
    # the normalising constant may see it, which is a number without a gradient
    if any_loss in (sampled_softmax, plain_softmax):
        assert value(any_loss, [[1.0, 9.0, 0.5]], [0], q=q, hits=hits) == pytest.approx(
            value(any_loss, [[1.0, 0.5]], [0], q=q[:2])
        )
    for logits in (low, high):
        any_loss(logits, *arguments([[1.0, 0.0, 0.5]], [0], q=q, hits=hits)[1:]).backward()
        assert logits.grad[0, 1] == 0.0


def test_the_label_counts_even_if_it_was_watched_before(any_loss):
    """A mask never turns the loss infinite, nor hides what is to be learned."""
    logits, *rest = arguments([[1.0, 0.0]], [0], q=[0.5, 0.5], hits=[[True, False]])
    logits.requires_grad_()

    loss = any_loss(logits, *rest)
    loss.backward()

    assert math.isfinite(loss.item())
    assert logits.grad[0, 0] < 0


@pytest.mark.parametrize("size", [0.0, 1e2, 1e4])
def test_gradients_are_finite_at_extremes(any_loss, size):
    """Logits far apart, q near 0, everything masked: no infinity and no NaN."""
    logits = torch.tensor([[size, -size, 0.0], [-size, size, size]], requires_grad=True)
    hits = torch.tensor([[False, False, False], [True, True, True]])
    log_q = torch.tensor([0.0, -27.0, -5.0])

    loss = any_loss(logits, torch.tensor([1, 0]), log_q, hits)
    loss.backward()

    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_every_loss_falls_when_the_label_rises(any_loss):
    """A step against the gradient lifts the label above the others."""
    logits = torch.tensor([[0.0, 0.2, -0.1]], requires_grad=True)
    nothing, no_hit = torch.zeros(3), torch.zeros(1, 3, dtype=torch.bool)

    any_loss(logits, torch.tensor([0]), nothing, no_hit).backward()

    assert logits.grad[0, 0] < 0 < logits.grad[0, 1:].min()


def test_an_unknown_loss_is_an_error_that_lists_the_known_ones():
    """A visible table, and its names in the error."""
    config = dataclasses.replace(TowerConfig(), loss="hinge")

    with pytest.raises(ValueError, match=r"unknown loss 'hinge'; known: bpr_max, gbce, hier"):
        loss_of(config)
