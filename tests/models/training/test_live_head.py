"""The live head: taste and what is watched right now, in one inner product."""

import numpy as np
import torch

from models.serving.live_signals import MAX_NORM, NUM_SIGNALS, SCALE, served_items
from models.towers.layers import unit
from models.training.config import TowerConfig
from models.training.live_head import LiveHead

CONFIG = TowerConfig(dim=8)


def drawn(seed=0):
    """Return a head with drawn weights, users, tastes and signals of videos."""
    rng = torch.Generator().manual_seed(seed)
    head = LiveHead(CONFIG)
    with torch.no_grad():
        head.weights.weight.copy_(torch.randn(NUM_SIGNALS, 8, generator=rng))
    users = unit(torch.randn(3, 8, generator=rng))
    tastes = unit(torch.randn(5, 8, generator=rng))
    return head, users, tastes, 6 * torch.rand(5, NUM_SIGNALS, generator=rng)


def test_logits_are_the_formula_worked_by_hand():
    """Scaled taste, and the signals by weights that depend on the taste: s u.v + (W u + b).f."""
    head, users, tastes, signals = drawn()

    logits = head.joined(users) @ torch.cat([tastes, signals], dim=1).T

    user, taste, signal = users[1].numpy(), tastes[2].numpy(), signals[2].numpy()
    weights = head.weights.weight.detach().numpy() @ user + head.weights.bias.detach().numpy()
    expected = (user @ taste) / CONFIG.temperature + weights @ signal
    np.testing.assert_allclose(logits[1, 2].item(), expected, rtol=1e-4)


def test_served_vectors_order_videos_as_logits_do():
    """Of unit norm on both sides: what the index searches is what was trained."""
    head, users, tastes, signals = drawn()
    logits = (head.joined(users) @ torch.cat([tastes, signals], dim=1).T).detach().numpy()

    served_users = head(users).detach().numpy()
    similarity = served_users @ served_items(tastes.numpy(), signals.numpy()).T

    np.testing.assert_allclose(np.linalg.norm(served_users, axis=1), 1.0, atol=1e-5)
    raw = torch.cat([users * head.log_scale.exp(), head.weights(users) / SCALE], dim=1)
    norm = raw.detach().norm(dim=1, keepdim=True).numpy() * MAX_NORM
    np.testing.assert_allclose(similarity * norm, logits, rtol=1e-3, atol=1e-3)
