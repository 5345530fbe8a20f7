"""The towers: what they may see, and what must not change their answer."""

import pytest
import torch

from models.features.features import CONTEXT_FIELDS, WATCH_FEATURES
from models.towers.item_tower import ItemTower
from models.towers.layers import unit
from models.towers.youtube_dnn import YoutubeDnnTower
from tests.support.bundles import SMALL

# Shape legend: B = users, T = watches, D = width of a vector.


@pytest.fixture
def tower():
    torch.manual_seed(0)
    return YoutubeDnnTower(SMALL)


def inputs(num_watches, *, num_users=1):
    rng = torch.Generator().manual_seed(1)
    return [
        torch.randn(num_users, num_watches, SMALL.dim, generator=rng),
        torch.ones(num_users, num_watches, len(WATCH_FEATURES)),
        torch.ones(num_users, num_watches),
        torch.zeros(num_users, SMALL.dim),
        torch.zeros(num_users, SMALL.context_dim * len(CONTEXT_FIELDS)),
        torch.zeros(num_users, 3),
    ]


def test_padding_in_front_changes_nothing(tower):
    """A window is encoded alike in a batch of any length, whatever stands in the padding."""
    watches, features, mask, *rest = inputs(4)
    padded = [torch.cat([torch.full_like(x[:, :3], 9.0), x], dim=1) for x in (watches, features)]
    padded_mask = torch.cat([torch.zeros(1, 3), mask], dim=1)

    torch.testing.assert_close(
        tower(*padded, padded_mask, *rest), tower(watches, features, mask, *rest)
    )


def test_the_order_of_the_last_watches_counts(tower):
    """Means over the last 50, 5 and 1: swapping the two newest moves the user."""
    watches, *rest = inputs(8)
    swapped = watches[:, [0, 1, 2, 3, 4, 5, 7, 6]]

    assert not torch.allclose(tower(watches, *rest), tower(swapped, *rest), atol=1e-4)


def test_completed_watches_weigh_more(tower):
    """Untrained, a user is nearer to the video that was completed than to the one left."""
    watches, features, mask, *rest = inputs(2)
    features[:, 0, 0] = 0.0

    user = tower(watches, features, mask, *rest)
    left, completed = unit(watches[0])

    assert user[0] @ completed > user[0] @ left


def test_gradients_reach_every_parameter(tower):
    """Nothing in the tower is left out of learning."""
    *parts, mask, search, context, age = inputs(6, num_users=3)
    vectors = tower(*parts, mask, search + 0.5, context + 0.5, age + 0.5)

    vectors[:, 0].sum().backward()

    assert all(
        p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any()
        for p in tower.parameters()
    )


def test_an_untrained_item_is_its_content():
    """Both vectors start as the content vector, so watched and recommended share a space."""
    content_ND = torch.randn(3, SMALL.dim, generator=torch.Generator().manual_seed(0))

    input_ND, output_ND = ItemTower(SMALL)(content_ND, torch.zeros(3, 1))

    torch.testing.assert_close(input_ND, content_ND)
    torch.testing.assert_close(output_ND, content_ND)


def test_a_zero_row_has_a_unit_row_without_nan():
    """A user with nothing and a tower that says nothing is still no NaN."""
    assert torch.isfinite(unit(torch.zeros(1, 4))).all()
