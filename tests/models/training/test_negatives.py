"""Which negatives are drawn, and how often each is expected: by hand and by drawing often."""

import numpy as np
import pytest

from models.training.negatives import NegativeDraw, log_inclusion

ROWS = np.arange(1, 11)
NO_COUNTS = np.zeros(10)


def draw_of(kind, *, num_negatives=4, alpha=0.5):
    return NegativeDraw(kind, num_negatives=num_negatives, alpha=alpha)


def drawn_share(negatives, count, *, times=2_000):
    """Return how often each of ROWS is in a draw."""
    random = np.random.default_rng(0)
    seen = np.zeros(len(ROWS))
    for _ in range(times):
        seen[negatives.rows(random, ROWS, count) - 1] += 1
    return seen / times


def test_inclusion_is_by_the_draw_or_by_a_label():
    """1 - (1 - 10/100) * (1 - .5)^2 and 1 - (1 - 10/100)."""
    log_q = log_inclusion(np.array([0.5, 0.0]), np.array([0.9, 0.9]), num_labels=2)

    assert np.exp(log_q).tolist() == pytest.approx([1 - 0.9 * 0.25, 0.1])


@pytest.mark.parametrize("kind", ["uniform", "frequency"])
def test_a_draw_of_everything_needs_no_correction(kind):
    """Then the sampled softmax is the softmax."""
    negatives = draw_of(kind, num_negatives=10)

    rows = negatives.rows(np.random.default_rng(0), ROWS, NO_COUNTS)
    log_q = negatives.log_q(NO_COUNTS, NO_COUNTS, NO_COUNTS, num_labels=3)

    assert rows.tolist() == ROWS.tolist()
    assert log_q.tolist() == [0.0] * 10


@pytest.mark.parametrize("kind", ["uniform", "frequency"])
def test_q_is_how_often_a_video_is_drawn(kind):
    """What is subtracted from the logits is what the draw does."""
    count = np.array([80.0, 24.0, 8.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    negatives = draw_of(kind)

    log_q = negatives.log_q(count, np.zeros(10), count, num_labels=1)

    np.testing.assert_allclose(drawn_share(negatives, count), np.exp(log_q), atol=0.04)


def test_frequency_to_the_power_of_alpha():
    """(count + .1)^.5: 3 to 2 to 1, so of two draws 1 - (1 - p)^2."""
    count = np.array([8.9, 3.9, 0.9])

    log_q = draw_of("frequency", num_negatives=2).log_q(count, np.zeros(3), count, num_labels=1)

    hand = [1 - (1 - p) ** 2 for p in (3 / 6, 2 / 6, 1 / 6)]
    assert np.exp(log_q).tolist() == pytest.approx(hand)


def test_in_batch_draws_nothing_and_corrects_by_the_labels():
    """A label counted 3 of 6 times is in a batch of two by 1 - (1 - .5)^2."""
    negatives = draw_of("in_batch")
    count = np.array([3.0, 3.0, 0.0])

    log_q = negatives.log_q(count, np.array([0.5, 0.5, 0.0]), count, num_labels=2)

    assert len(negatives.rows(np.random.default_rng(0), ROWS, NO_COUNTS)) == 0
    # never counted, yet it is in the batch: as likely as .1 labels in 6 + .3
    assert np.exp(log_q).tolist() == pytest.approx([0.75, 0.75, 1 - (62 / 63) ** 2])


def test_no_video_is_drawn_twice():
    """One column for each video, so that a label cannot be its own negative."""
    rows = draw_of("frequency", num_negatives=9, alpha=1.0).rows(
        np.random.default_rng(0), ROWS, np.array([1_000.0] + [0.0] * 9)
    )

    assert len(rows) == len(set(rows.tolist())) < 9


def test_an_unknown_draw_is_an_error_that_lists_the_known_ones():
    """A visible list, and its names in the error."""
    with pytest.raises(ValueError, match="known: uniform, in_batch, frequency"):
        draw_of("hard")
