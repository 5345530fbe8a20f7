"""Two models on the same examples."""

import numpy as np

from trainer.guard.paired import MOST_LOST, TOLERANCE, PairedRecall


def noted(hit, other, count):
    paired = PairedRecall()
    paired.note(np.full(count, hit), np.full(count, other))
    return paired


def test_a_model_that_finds_less_is_worse_after_enough_examples():
    needed = int(MOST_LOST / (0.5 - TOLERANCE)) + 1
    assert noted(0.0, 0.5, needed).is_worse
    assert not noted(0.0, 0.5, needed - 2).is_worse


def test_what_is_tolerated_never_adds_up():
    assert not noted(0.5, 0.5 + 0.9 * TOLERANCE, 100_000).is_worse


def test_a_good_model_that_turns_bad_is_seen_as_soon_as_a_bad_one():
    paired = noted(0.9, 0.5, 10_000)
    paired.note(np.zeros(100), np.full(100, 0.5))
    assert paired.is_worse
    assert paired.num_since == 100


def test_recall_is_reached_by_as_much_and_no_less():
    assert noted(0.5, 0.5, 10).reaches
    assert not noted(0.5, 0.51, 10).reaches
