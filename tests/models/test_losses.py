"""Sampled softmax with logQ, against the formula worked by hand."""

import math

import numpy as np
import pytest
import torch

from models.losses import log_inclusion, sampled_softmax


def loss_of(logits, labels, *, q, offset=None, hits=None):
    logits = torch.tensor(logits)
    hits = torch.zeros(logits.shape, dtype=torch.bool) if hits is None else torch.tensor(hits)
    offset = torch.zeros(len(q)) if offset is None else torch.tensor(offset)
    return sampled_softmax(
        logits, torch.tensor(labels), torch.log(torch.tensor(q)), offset, hits
    ).item()


def test_the_loss_is_the_formula():
    """The log-probability of being a candidate comes off every logit, the label's too."""
    # Corrected logits: [[1 - log .8, 0 - log .2], [0 - log .8, 2 - log .2]]; with 1 in place of 2
    # the two rows would mirror each other, and a wrong sign of log q would not be seen.
    first = math.log(math.e / 0.8) - math.log(math.e / 0.8 + 1 / 0.2)
    second = math.log(math.e**2 / 0.2) - math.log(1 / 0.8 + math.e**2 / 0.2)

    loss = loss_of([[1.0, 0.0], [0.0, 2.0]], [0, 1], q=[0.8, 0.2])

    assert loss == pytest.approx(-(first + second) / 2)


def test_the_offset_is_added_as_the_ranker_will_add_it():
    """An offset of log 3 makes a video three times as likely."""
    loss = loss_of([[0.0, 0.0]], [0], q=[1.0, 1.0], offset=[math.log(3), 0.0])

    assert loss == pytest.approx(-math.log(3 / 4))


def test_an_accidental_hit_weighs_nothing():
    """With the watched video masked the loss is that of the other columns alone."""
    masked = loss_of([[1.0, 9.0, 0.5]], [0], q=[1.0] * 3, hits=[[False, True, False]])

    assert masked == pytest.approx(loss_of([[1.0, 0.5]], [0], q=[1.0] * 2))


def test_the_label_counts_even_if_it_was_watched_before():
    """A mask never turns the loss infinite."""
    assert math.isfinite(loss_of([[1.0, 0.0]], [0], q=[1.0, 1.0], hits=[[True, False]]))


def test_a_constant_on_all_logits_changes_nothing():
    """Softmax is blind to it, so a common factor in q is too."""
    assert loss_of([[1.0, 0.0]], [0], q=[0.1, 0.2]) == pytest.approx(
        loss_of([[6.0, 5.0]], [0], q=[0.4, 0.8])
    )


def test_inclusion_is_by_the_draw_or_by_a_label():
    """1 - (1 - 10/100) * (1 - .5)^2 and 1 - (1 - 10/100)."""
    log_q = log_inclusion(np.array([0.5, 0.0]), num_uniform=10, num_videos=100, num_labels=2)

    assert np.exp(log_q).tolist() == pytest.approx([1 - 0.9 * 0.25, 0.1])


def test_a_draw_of_everything_needs_no_correction():
    """Then the sampled softmax is the softmax."""
    log_q = log_inclusion(np.array([0.5, 0.0]), num_uniform=200, num_videos=100, num_labels=2)

    assert log_q.tolist() == [0.0, 0.0]
