"""What holds for every user tower of the table, whatever it is made of."""

import dataclasses

import numpy as np
import pytest
import torch

from models.bundle import export
from models.features.features import CONTEXT_FIELDS, WATCH_FEATURES, FeatureEncoder
from models.history.history import EMPTY, WindowPolicy, fold
from models.serving import encoder
from models.towers.item_tower import ItemTower
from models.towers.registry import USER_INPUTS, USER_TOWERS, user_tower
from tests.support.builders import watch
from tests.support.bundles import SMALL

# Shape legend: B = users, T = watches, D = width of a vector.

NAMES = sorted(USER_TOWERS)
ORDER_READERS = sorted(USER_TOWERS.keys() - {"dssm"})


def config_of(name):
    return dataclasses.replace(SMALL, model=name, dim=16)


@pytest.fixture(scope="module", params=NAMES)
def tower(request):
    torch.manual_seed(0)
    tower = user_tower(config_of(request.param))
    with torch.no_grad():
        for parameter in tower.parameters():  # what starts at zero has to count as well
            parameter.add_(0.1 * torch.randn_like(parameter))
    return tower


def inputs(num_watches, *, num_users=3):
    rng = torch.Generator().manual_seed(1)
    features = torch.rand(num_users, num_watches, len(WATCH_FEATURES), generator=rng)
    features[:, :, 0] = features[:, :, 0].round()
    return [
        torch.randn(num_users, num_watches, 16, generator=rng),
        features,
        torch.ones(num_users, num_watches),
        torch.randn(num_users, 16, generator=rng),
        torch.randn(num_users, SMALL.context_dim * len(CONTEXT_FIELDS), generator=rng),
        torch.rand(num_users, 3, generator=rng),
    ]


def with_padding(watches, features, mask, *rest, width):
    junk = [torch.full((len(x), width, x.shape[2]), 9.0) for x in (watches, features)]
    return [
        torch.cat([junk[0], watches], dim=1),
        torch.cat([junk[1], features], dim=1),
        torch.cat([torch.zeros(len(mask), width), mask], dim=1),
        *rest,
    ]


def test_every_user_has_a_vector_of_norm_1(tower):
    """Also the one who has watched nothing, searched for nothing and is nowhere."""
    some = tower(*inputs(5))
    nobody = tower(*(torch.zeros_like(x) for x in inputs(1)))

    torch.testing.assert_close(some.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(nobody.norm(dim=1), torch.ones(3))


@torch.no_grad()
def test_a_skip_leaves_the_user_where_it_was(tower):
    """Who has skipped a video is not drawn towards it, by any tower; who has watched it is."""
    nobody, skipped, watched = (
        user_vector(tower, events)
        for events in (
            [],
            [watch("a", watch_ms=1_000, duration_ms=60_000)],
            [watch("a", watch_ms=60_000, duration_ms=60_000)],
        )
    )

    torch.testing.assert_close(skipped, nobody)
    assert (watched - nobody).abs().max() > 0.01


def user_vector(tower, events):
    """Return the vector of who did *events*, through the arrays that training and serving share."""
    window = fold(EMPTY, events, WindowPolicy())
    features = FeatureEncoder(SMALL.content_buckets, SMALL.context_buckets, SMALL.completion)
    users = features.windows([window], lambda ids: np.ones(len(ids), np.int32), [window.newest_ms])
    tables = encoder.Tables(
        np.zeros((SMALL.content_buckets, 16), np.float32),
        np.zeros((SMALL.context_buckets, SMALL.context_dim), np.float32),
    )
    video_ND = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    arrays = tables.tower_inputs(users, video_ND)
    return tower(*(torch.from_numpy(arrays[name]) for name in USER_INPUTS))


@torch.no_grad()
def test_padding_in_front_changes_nothing(tower):
    """A window is encoded alike in a batch of any length, whatever stands in the padding."""
    given = inputs(4)

    torch.testing.assert_close(tower(*with_padding(*given, width=3)), tower(*given))


@torch.no_grad()
def test_padding_changes_no_position(tower):
    """The same for all positions of a sequence."""
    given = inputs(4)[:3]
    padded = with_padding(*given, width=3)

    torch.testing.assert_close(tower.positions(*padded)[:, 3:], tower.positions(*given))


@torch.no_grad()
@pytest.mark.parametrize("num_watches", [1, 4, 50])
def test_a_position_is_the_user_as_of_then(tower, num_watches):
    """Learning from sequences teaches what serving computes: every prefix, nothing later."""
    watches, features, mask, *rest = inputs(num_watches)
    nothing = [torch.zeros_like(x) for x in rest]
    positions = tower.positions(watches, features, mask)

    for end in {1, (num_watches + 1) // 2, num_watches}:
        prefix = [x[:, :end] for x in (watches, features, mask)]
        torch.testing.assert_close(positions[:, end - 1], tower(*prefix, *nothing))


@pytest.mark.parametrize("name", ORDER_READERS)
def test_the_order_of_the_last_watches_counts(name):
    """All but the plain average read it: swapping the two newest moves the user."""
    torch.manual_seed(0)
    tower = user_tower(config_of(name))
    watches, *rest = inputs(8)
    swapped = watches[:, [0, 1, 2, 3, 4, 5, 7, 6]]

    assert not torch.allclose(tower(watches, *rest), tower(swapped, *rest), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_an_untrained_user_is_near_to_what_they_watched_last(name):
    """So that a model recommends by content before it has learned anything."""
    torch.manual_seed(0)
    tower = user_tower(config_of(name))
    watches, features, mask, *rest = inputs(1)
    watches = watches / watches.norm(dim=2, keepdim=True)  # as content vectors are
    user = tower(watches, torch.ones_like(features), mask, *(torch.zeros_like(x) for x in rest))

    nearness = user @ watches[:, 0].T

    assert nearness.argmax(dim=1).tolist() == [0, 1, 2]
    assert nearness.diagonal().min() > 0.7


def test_gradients_reach_every_parameter(tower):
    """Nothing in a tower is left out of learning."""
    tower.zero_grad()
    tower(*inputs(6))[:, 0].sum().backward()

    assert all(
        p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any()
        for p in tower.parameters()
    )


def test_an_export_computes_what_torch_computes(tower):
    """On shapes that the exporter was never shown; what a tower ignores, nobody has to feed."""
    config = next(config_of(n) for n in NAMES if type(tower) is USER_TOWERS[n])
    files = export.export(tower, ItemTower(config), config)
    session = encoder.session(files[encoder.USER_TOWER])
    for num_users, num_watches in ((1, 1), (2, 50), (7, 4), (64, 13)):
        drawn = export._user_inputs(config, num_users=num_users, num_watches=num_watches)
        named = {name: x.numpy() for name, x in zip(USER_INPUTS, drawn, strict=True)}

        vectors = session.run(["user"], encoder.inputs_used_by(session, named))[0]

        np.testing.assert_allclose(vectors, tower(*drawn).detach().numpy(), atol=1e-5)


def test_an_unknown_model_is_refused_with_the_list():
    """Whoever mistypes a name sees the names that there are."""
    with pytest.raises(ValueError, match=r"'gru5rec'; known: dssm, gru4rec, sasrec, youtube_dnn"):
        user_tower(config_of("gru5rec"))
