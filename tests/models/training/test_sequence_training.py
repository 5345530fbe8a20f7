"""Histories are learned all positions at once, in place, the same way by the same seed."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from models.features.features import WATCH_FEATURES, FeatureEncoder
from models.features.vocabulary import Vocabulary
from models.towers.registry import USER_TOWERS
from models.training.sequence_batches import WatchSequence, batches, cut
from models.training.sequence_training import (
    Recipe,
    SequenceTraining,
    dropout,
    shared_softmax,
    train,
)
from models.training.two_tower import TwoTowerModel
from tests.support.builders import upload
from tests.support.bundles import SMALL

NUM_VIDEOS = 12
QUICK = Recipe(
    num_epochs=12, batch_size=8, slice_length=6, learning_rate=2e-2, warm_up_steps=1, dropout=0.0
)


def model_of(name="youtube_dnn", *, num_videos=NUM_VIDEOS):
    config = dataclasses.replace(SMALL, model=name, dim=32, content_buckets=256)
    features = FeatureEncoder(
        content_buckets=config.content_buckets,
        context_buckets=config.context_buckets,
        completion=config.completion,
    )
    catalogue = Vocabulary(features)
    for n in range(num_videos):
        catalogue.put(upload(f"v{n}", category=f"kind{n}", tags=(), channel_id=f"c{n}"))
    return TwoTowerModel(config, seed=0), catalogue


def watched(*rows, completed=None):
    is_completed = np.ones(len(rows), bool) if completed is None else np.array(completed, bool)
    return WatchSequence(np.array(rows, np.int64), is_completed)


def chains(num_users=24):
    """After each video comes the next, and after the last one the first."""
    return [
        watched(*((start + n) % NUM_VIDEOS + 1 for n in range(9))) for start in range(num_users)
    ]


def best_after(model, catalogue, *rows):
    """Return the row of the video that is nearest to a user who has watched *rows*."""
    input_ND, output_ND = model.item_vectors(catalogue.content(), np.arange(1, len(catalogue) + 1))
    rows_BT = np.array([rows])
    features_BTF = torch.zeros(1, len(rows), len(WATCH_FEATURES))
    features_BTF[:, :, :2] = 1.0
    with torch.no_grad():
        user_BTD = model.user_tower.positions(
            torch.from_numpy(input_ND[rows_BT - 1]), features_BTF, torch.ones(1, len(rows))
        )
    return int((output_ND @ user_BTD[0, -1].numpy()).argmax()) + 1


@pytest.mark.parametrize("name", sorted(USER_TOWERS))
def test_a_planted_chain_is_learned_by_every_tower(name):
    """Who has watched 1, 2, 3 is recommended 4: content cannot tell, only the order can."""
    model, catalogue = model_of(name)

    train(model, catalogue, chains(), QUICK, seed=0)

    found = [best_after(model, catalogue, n, n + 1, n + 2) for n in range(1, 10)]
    right = np.mean([row == n + 3 for n, row in enumerate(found, start=1)])
    assert right > 0.85


def test_the_loss_is_the_softmax_over_the_whole_of_a_small_catalogue():
    """Two users with one label each, worked by hand from the vectors."""
    model, catalogue = model_of()
    histories = [watched(1, 2), watched(3, 4)]
    recipe = dataclasses.replace(QUICK, num_negatives=NUM_VIDEOS, is_warm_started=False)
    training = SequenceTraining(model, catalogue, histories, recipe, seed=0)
    input_ND, output_ND = model.item_vectors(catalogue.content(), np.arange(1, NUM_VIDEOS + 1))
    features = torch.tensor([[[1.0, 1.0, 0.0]]])
    expected = []
    for one in histories:
        watch, label = one.rows_T - 1
        with torch.no_grad():
            user = model.user_tower.positions(
                torch.from_numpy(input_ND[[[watch]]]), features, torch.ones(1, 1)
            )[0, 0].numpy()
        logits = output_ND @ user / model.config.temperature
        expected.append(math.log(np.exp(logits).sum()) - logits[label])

    assert training.epoch() == pytest.approx(np.mean(expected), abs=1e-5)


def test_the_sampled_loss_is_the_formula_worked_by_hand():
    """The label as it is, each drawn video less log q, and the label's own column left out."""
    user = torch.tensor([[1.0, 0.0]]) / 0.5
    output = torch.tensor([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]])
    drawn, log_q = torch.tensor([0, 1, 2]), torch.log(torch.tensor([0.5, 0.25, 0.1]))

    loss = shared_softmax(user, output, torch.tensor([1]), drawn, log_q)

    # e^(.8/.5) against e^(.6/.5) / .5 and e^0 / .1
    label = math.exp(1.6)
    assert loss.item() == pytest.approx(
        -math.log(label / (label + math.exp(1.2) / 0.5 + 1.0 / 0.1))
    )


def test_negatives_are_drawn_by_popularity_to_a_power():
    """Completed watches that are labels count, plus one: never-watched videos are drawn too."""
    model, catalogue = model_of()
    recipe = dataclasses.replace(QUICK, negative_alpha=0.5, is_warm_started=False)
    histories = [watched(1, 2, 2, 2, 3, completed=[True, True, True, True, False])]

    training = SequenceTraining(model, catalogue, histories, recipe, seed=0)

    weight = np.sqrt([1, 4, *[1] * 10])
    np.testing.assert_allclose(training._share_N, weight / weight.sum())


def rng():
    return np.random.Generator(np.random.PCG64(0))


def test_an_unfinished_watch_is_an_input_and_not_a_label():
    """The class is the next completed watch; a skip is history only."""
    histories = [watched(1, 2, 3, 4, completed=[True, False, True, False]), watched(5, 6)]

    (batch,) = batches(cut(histories, 6, rng()), 8, rng())

    longest = batch.rows_BT[:, 0].argmax()
    assert batch.rows_BT[longest].tolist() == [1, 2, 3]
    assert batch.label_BT[longest].tolist() == [0, 3, 0]
    assert batch.is_completed_BT[longest].tolist() == [True, False, True]
    assert batch.rows_BT[1 - longest].tolist() == [0, 0, 5]
    assert batch.label_BT[1 - longest].tolist() == [0, 0, 6]


def test_every_label_of_a_long_history_is_learned_once_an_epoch():
    """Cuts lie anywhere, and nothing falls between two slices."""
    history, generator = watched(*([1, 2] * 10)), rng()

    for _ in range(8):
        slices = sorted(cut([history], 6, generator), key=lambda one: one.start)
        assert [n for _, start, end in slices for n in range(start, end)] == list(range(19))
        assert max(end - start for _, start, end in slices) <= 6


def test_a_cap_takes_that_many_slices_of_a_user():
    """A heavy watcher counts no more than *most*; who has no label gives no slice."""
    histories = [watched(*([1, 2] * 30)), watched(3, 4), watched(5)]

    owners = [one.history for one in cut(histories, 6, rng(), most=2)]

    assert [sum(one is each for one in owners) for each in histories] == [2, 1, 0]


def test_the_same_seed_learns_the_same_weights():
    """Runs are reproducible bit for bit."""
    states = []
    for _ in range(2):
        model, catalogue = model_of()
        train(model, catalogue, chains(), dataclasses.replace(QUICK, num_epochs=2), seed=5)
        states.append(model.state())

    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_learning_stops_when_the_callback_returns_false():
    """Early stopping is the caller's decision, after any epoch."""
    model, catalogue = model_of()
    epochs = []

    train(
        model,
        catalogue,
        chains(),
        QUICK,
        seed=0,
        goes_on=lambda epoch, _loss: epochs.append(epoch) or epoch < 3,
    )

    assert epochs == [1, 2, 3]


def test_a_row_that_the_catalogue_does_not_have_is_refused():
    """Before anything is learned."""
    model, catalogue = model_of()

    with pytest.raises(ValueError, match="row 99 is beyond the 12 of the catalogue"):
        train(model, catalogue, [watched(1, 99)], QUICK, seed=0)


def test_histories_without_a_label_teach_nothing():
    """One watch, or none: no error and no step; that its video was watched is noted."""
    model, catalogue = model_of()
    recipe = dataclasses.replace(QUICK, is_warm_started=False)
    before = {name: array.copy() for name, array in model.state().items()}

    train(model, catalogue, [watched(1), watched()], recipe, seed=0)

    after = model.state()
    assert after.pop("ids.seen_N")[1] == 1
    assert all(np.array_equal(before[name], array) for name, array in after.items())


@pytest.mark.parametrize(
    ("field", "value"), [("num_epochs", 0), ("slice_length", 51), ("dropout", 1.0)]
)
def test_a_recipe_that_makes_no_sense_is_refused(field, value):
    """With the bound and what was given."""
    with pytest.raises(ValueError, match=f"{field} must be .* got {value}"):
        Recipe(**{field: value})


def test_ids_that_are_rare_stay_out_of_it():
    """Video 12 is watched twice and has no vector yet; the next stream counts on from there."""
    model, catalogue = model_of()
    model.ids.min_seen = 3
    histories = [watched(*range(1, 12)) for _ in range(6)] + [watched(1, 12), watched(2, 12)]

    train(model, catalogue, histories, QUICK, seed=0)

    has_vector_N = model.ids.weight_ND[1 : NUM_VIDEOS + 1].any(dim=1).tolist()
    assert has_vector_N == [*[True] * 11, False]
    assert model.ids.seen_N[12].item() == 2


def test_dropout_goes_by_the_seed_and_not_by_what_torch_drew_before():
    """Same seed, same figures."""
    losses = []
    for drawn_before in (0, 7):
        model, catalogue = model_of()
        torch.rand(drawn_before + 1)
        recipe = dataclasses.replace(QUICK, num_epochs=1, dropout=0.5)
        train(model, catalogue, chains(), recipe, seed=3, goes_on=lambda _n, x: losses.append(x))

    assert losses[0] == losses[1]


def test_dropout_keeps_the_mean():
    """What is left grows by what is gone."""
    kept = dropout(torch.ones(1, 100, 100), 0.2, torch.Generator().manual_seed(0))

    assert kept.mean().item() == pytest.approx(1.0, abs=0.02)
    assert sorted(set(kept.flatten().tolist())) == [0.0, 1.25]
