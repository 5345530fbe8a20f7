"""How far the weights move in a step."""

import numpy as np
import pytest
import torch

from models.training.two_tower import TwoTowerModel
from trainer.guard.movement import MOMENTUM, NUM_IN_A_ROW, WARM_UP, MovementMonitor
from trainer.learn.registry import NAMES, config_of, learner


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
    assert "times as far in a step as usual" in learning.step(0.1)


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


@pytest.mark.parametrize("at", [200, 201])
@pytest.mark.parametrize("at_once", [1, 2, 4])
@pytest.mark.parametrize("times", [30, 100, 1_000])
def test_one_unusual_batch_is_not_a_wrong_learning_rate(times, at_once, at):
    """Adam carries its gradient on for ten steps, each a tenth shorter than the one before."""
    assert learned(lambda step: times if step == at else 1, at_once=at_once) is None


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_learning_rate_that_rises_tenfold_is_told(at_once):
    told = learned(lambda _step: 1, rate=lambda step: 10 if step >= 200 else 1, at_once=at_once)
    assert "times as far in a step as usual" in told


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_steps_without_a_gradient_do_not_make_the_next_ones_far(at_once):
    """A catalogue of one video has nothing to tell apart; momentum alone moves the weights."""
    assert learned(lambda step: 0 if 60 <= step < 160 else 1, at_once=at_once) is None


def test_weights_of_another_number_begin_anew():
    learning = Learning()
    learning.step(0.01, count=WARM_UP + 5)
    learning.weights = np.zeros(12, np.float32)
    assert learning.step(0.01, count=2) is None


@pytest.mark.parametrize("model", NAMES)
def test_what_is_looked_at_is_what_adam_moves_with_this_momentum(model):
    """The embedding tables have an optimiser without momentum, and are not looked at."""
    config = config_of(model)
    network = TwoTowerModel(config, seed=0)
    [group] = network.optimizer.param_groups
    num_dense = sum(one.numel() for one in group["params"])

    assert group["betas"][0] == MOMENTUM
    assert len(learner(model, config, seed=0).dense_weights()) == num_dense


def learned(scale, *, rate=lambda _step: 1, at_once=1):
    """Let Adam take 240 steps on noise of such a *scale*, and look after so many *at_once*.

    Return what was told, if anything was. The second moment begins as after a long run: early in a
    run one large gradient raises it so far that the steps after it are short.
    """
    rng = np.random.default_rng(0)
    weights = torch.zeros(1_000, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=1e-3, foreach=False)
    optimizer.state[weights] = {
        "step": torch.tensor(100_000.0),
        "exp_avg": torch.zeros(1_000),
        "exp_avg_sq": torch.ones(1_000),
    }
    monitor = MovementMonitor()
    reason = None
    for step in range(240):
        optimizer.param_groups[0]["lr"] = 1e-3 * rate(step)
        weights.grad = torch.from_numpy(scale(step) * rng.standard_normal(1_000, np.float32))
        optimizer.step()
        if step % at_once == at_once - 1:
            monitor.note(weights.detach().numpy().copy(), num_taken=step + 1, num_plays=step)
            reason = reason or monitor.reason
    return reason
