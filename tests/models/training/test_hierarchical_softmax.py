"""Two levels by popularity, against the formula worked by hand."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from models.training.config import TowerConfig
from models.training.hierarchical_softmax import HierarchicalSoftmax, bands

LOGITS = torch.tensor([[1.0, 0.0, 2.0, -1.0]])
BAND = torch.tensor([0, 0, 1, 1])


@pytest.fixture
def hierarchy():
    """Two bands, with logits 3 and 1 for the user (1, 0)."""
    hierarchy = HierarchicalSoftmax(TowerConfig(dim=2, num_bands=2))
    hierarchy.band_logits.weight.data = torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    hierarchy.band_logits.bias.data = torch.tensor([1.0, 1.0])
    return hierarchy


def loss_of(hierarchy, logits, label, *, user=(1.0, 0.0), hits=None):
    nothing = torch.zeros(logits.shape[1])
    hits = torch.zeros(logits.shape, dtype=torch.bool) if hits is None else torch.tensor(hits)
    loss = hierarchy.loss(torch.tensor([user]), BAND)
    return loss(logits, torch.tensor([label]), nothing, hits)


def test_bands_follow_the_order_of_popularity():
    """Five videos in two bands; of the two that nobody watched the older one goes first."""
    assert bands(np.array([0.0, 9.0, 3.0, 0.0, 5.0]), num_bands=2).tolist() == [1, 0, 0, 1, 0]


def test_the_loss_is_that_of_the_band_and_of_the_video_within(hierarchy):
    """Label 2: -log(e / (e^3 + e)) - log(e^2 / (e^2 + e^-1))."""
    upper = -math.log(math.e / (math.e**3 + math.e))
    lower = -math.log(math.e**2 / (math.e**2 + math.exp(-1)))

    assert loss_of(hierarchy, LOGITS, 2).item() == pytest.approx(upper + lower)


def test_videos_of_other_bands_do_not_matter(hierarchy):
    """Their logits are not read."""
    other = LOGITS.clone()
    other[0, :2] = 50.0

    assert loss_of(hierarchy, other, 2).item() == loss_of(hierarchy, LOGITS, 2).item()


def test_probabilities_are_those_of_the_loss_and_sum_to_one(hierarchy):
    """What is learned is what is ranked by."""
    log_p = hierarchy.log_probabilities(torch.tensor([[1.0, 0.0]]), LOGITS, BAND)

    assert log_p.exp().sum().item() == pytest.approx(1.0)
    assert log_p[0, 2].item() == pytest.approx(-loss_of(hierarchy, LOGITS, 2).item())


def test_an_empty_band_has_no_probability(hierarchy):
    """A small catalogue has fewer videos than there are bands."""
    one_band = torch.zeros(4, dtype=torch.int64)

    log_p = hierarchy.log_probabilities(torch.tensor([[1.0, 0.0]]), LOGITS, one_band)

    assert log_p.exp().sum().item() == pytest.approx(1.0)


def test_an_accidental_hit_in_the_band_weighs_nothing(hierarchy):
    """Alone in its band, the label costs no more than its band."""
    alone = loss_of(hierarchy, LOGITS, 2, hits=[[False, False, False, True]])

    assert alone.item() == pytest.approx(-math.log(math.e / (math.e**3 + math.e)))


def test_gradients_are_finite_at_extremes(hierarchy):
    """Logits far apart and users far out."""
    logits = (LOGITS * 1e4).requires_grad_()

    loss_of(hierarchy, logits, 3, user=(1e4, -1e4)).backward()

    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(hierarchy.band_logits.weight.grad).all()


def test_bands_below_one_are_refused():
    """There is at least one."""
    with pytest.raises(ValueError, match="num_bands must be in"):
        dataclasses.replace(TowerConfig(), num_bands=0)
