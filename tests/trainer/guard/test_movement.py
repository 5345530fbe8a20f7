"""How far the weights move in a step."""

import numpy as np
import pytest

from trainer.guard.movement import NUM_IN_A_ROW, WARM_UP, MovementMonitor


class Learning:
    """Weights that move by steps of a given length."""

    def __init__(self):
        self.monitor = MovementMonitor()
        self.weights = np.zeros(10, np.float32)
        self.num_taken = 0
        self.monitor.note(self.weights, num_taken=0, num_plays=0)

    def step(self, length, count=1, at_once=1):
        """Take *count* times so many steps *at_once*, each of the same length."""
        for number in range(count):
            self.num_taken += at_once
            self.weights = self.weights + np.float32(length * at_once)
            self.monitor.note(self.weights, num_taken=self.num_taken, num_plays=number)
        return self.monitor.reason


def test_steps_that_are_ten_times_as_long_are_told():
    learning = Learning()
    assert learning.step(0.01, count=WARM_UP + 5) is None
    assert learning.step(0.1, count=NUM_IN_A_ROW - 1) is None
    assert "10.0 times" in learning.step(0.1)


@pytest.mark.parametrize("length", [0.01, 0.03])
def test_one_long_step_is_not_and_neither_are_steps_a_little_longer(length):
    learning = Learning()
    learning.step(0.01, count=WARM_UP + 5)
    learning.step(0.1)
    assert learning.step(length, count=50) is None


def test_several_steps_at_once_are_not_one_long_step():
    """A batch of a backlog takes four; a trainer that catches up must not be sent back for it."""
    learning = Learning()
    learning.step(0.01, count=WARM_UP + 5)
    assert learning.step(0.015, count=20, at_once=4) is None
    assert learning.step(0.1, count=NUM_IN_A_ROW, at_once=4) is not None


def test_weights_that_are_not_finite_have_moved_too_far():
    learning = Learning()
    learning.step(0.01, count=WARM_UP + 5)
    assert learning.step(float("nan"), count=NUM_IN_A_ROW) is not None


def test_a_look_without_a_step_says_nothing():
    learning = Learning()
    learning.step(0.01, count=WARM_UP + 5)
    usual = learning.monitor.usual
    learning.step(0.0, count=20)
    assert learning.monitor.usual == usual
