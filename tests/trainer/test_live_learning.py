"""The learner with live signals: what is watched right now moves vectors without any learning."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from models.bundle import bundle as bundles
from models.features.examples import Example
from models.history.history import EMPTY, HOUR_MS, WindowPolicy, fold
from models.serving.encoder import ItemEncoder, UserEncoder
from models.serving.items import ItemStore
from models.serving.live_signals import NUM_SIGNALS
from models.training.sequence_training import Recipe
from models.training.two_tower import StepCandidates
from tests.support.builders import T0, upload, watch
from tests.support.bundles import SMALL, TASTES, catalogue, learner_of, write
from trainer.evaluate.popularity import Viewing
from trainer.learn.histories import PastWatches
from trainer.learn.learner import Learner

RECIPE = Recipe(num_epochs=12, batch_size=16, num_negatives=20, warm_up_steps=5, dropout=0.0)


def viewings(video_id, count, *, at_ms=0, is_completed=True):
    return [Viewing(video_id, T0 + at_ms + n, 5_000, is_completed) for n in range(count)]


def example_of(*watched, label, at_ms=100):
    window = fold(EMPTY, [watch(v, at_ms=n) for n, v in enumerate(watched)], WindowPolicy())
    return Example("u", window, label, T0 + at_ms)


def place_of(learner, video_id, example):
    """Return how many videos are nearer to the user of *example*."""
    (similarity_N,) = learner.similarity(learner.encode([example]))
    return int((similarity_N > similarity_N[learner.video_ids.index(video_id)]).sum())


def test_a_video_that_many_watch_gets_nearer_to_every_user():
    """Nothing was learned yet, and the user watched something else."""
    learner = learner_of(catalogue())
    user = example_of("chess0", label="chess1")
    assert place_of(learner, "trains3", user) > 1

    learner.count(viewings("trains3", 50))

    assert place_of(learner, "trains3", user) <= 1  # the video just watched may stay nearer


def test_watched_videos_are_touched_and_later_those_that_cooled_down():
    """A vector in the index must not keep the heat of yesterday."""
    learner = learner_of(catalogue())
    learner.count(viewings("trains3", 50))
    assert learner.drain_touched() == {"trains3"}
    assert learner.drain_touched() == set()

    learner.count(viewings("chess0", 1, at_ms=6 * HOUR_MS))

    assert learner.drain_touched() == {"chess0", "trains3"}


def test_a_label_has_the_signals_from_before_its_own_watch():
    """Replayed later, an example must not be explained by the very watch that it is."""
    losses = []
    for num_counted in (0, 500):
        learner = learner_of(catalogue())
        one = example_of("chess0", label="chess1")
        learner.learn(learner.encode([one]))
        learner.count(viewings("chess1", num_counted))
        batch = learner._replay.take(np.array([0]), learner.features, now_ms=T0 + 100)
        losses.append(batch.label_signals_BK)

    np.testing.assert_array_equal(*losses)


def test_the_loss_is_the_softmax_of_taste_and_signals_worked_by_hand():
    """Of 20 videos, one was watched already; the label has its signals of before it was watched."""
    learner = learner_of(catalogue(), dataclasses.replace(SMALL, num_replayed=0))
    learner.count(viewings("trains3", 9) + viewings("chess1", 2, is_completed=False))
    one = example_of("chess0", label="chess1")
    model, before_20K = learner._model, learner._signals.signals(np.arange(1, 21))
    encoded = learner.encode([one])
    user_1D = model.user_vectors(encoded.users, learner._all_vectors()[0])
    _, taste_20D = model.item_vectors(learner.vocabulary.content(), np.arange(1, 21))
    with torch.no_grad():
        weights = model.head.joined(torch.from_numpy(user_1D))[0].numpy()
    logits = np.concatenate([taste_20D, before_20K], axis=1) @ weights
    watched, label = (learner.video_ids.index(name) for name in ("chess0", "chess1"))
    expected = math.log(np.exp(np.delete(logits, watched)).sum()) - logits[label]

    slots = learner._replay.add(encoded, np.array([label + 1]), before_20K[[label]])
    batch = learner._replay.take(slots, learner.features, now_ms=one.event_time_ms)
    learner.count(viewings("chess1", 40))
    now_20K = learner._signals.signals(np.arange(1, 21))
    now_20K[np.arange(20) != label] = before_20K[np.arange(20) != label]
    nothing = np.zeros(20, np.float32)
    candidates = StepCandidates(np.arange(1, 21), nothing, None, now_20K)

    assert model.step(batch, candidates, learner.vocabulary) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_steps_go_by_examples_and_not_by_batches(batch_size):
    """A quiet stream comes in tiny batches, and must not be learned harder than a busy one."""
    learner = learner_of(catalogue())
    examples = [example_of("chess0", label="chess1", at_ms=n) for n in range(16)]

    for first in range(0, 16, batch_size):
        learner.learn(learner.encode(examples[first : first + batch_size]))

    num_steps = learner._model.optimizer.state_dict()["state"][0]["step"].item()
    assert num_steps == 16 // SMALL.examples_per_step


def test_learning_and_counting_go_on_bit_for_bit_after_a_restart():
    """The counts, what was told of them, and the slower pace after histories are in the state."""
    learner = learner_of(catalogue())
    learner.learn_histories(histories(), dataclasses.replace(RECIPE, num_epochs=1), span_ms=HOUR_MS)
    learner.count(viewings("trains3", 5))
    learner.drain_touched()
    arrays, meta = learner.state()
    restarted = Learner(SMALL, seed=99)
    restarted.load_state(arrays, json.loads(json.dumps(meta)))

    for one in (learner, restarted):
        one.learn(one.encode([example_of("chess0", label="chess1", at_ms=n) for n in range(20)]))
        one.count(viewings("chess1", 2, at_ms=3 * HOUR_MS))
    assert learner.drain_touched() == restarted.drain_touched()
    (arrays, meta), (other, other_meta) = learner.state(), restarted.state()

    assert meta == other_meta
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, other[name], name)


def histories():
    """After each taste comes the next: what content cannot tell."""
    tastes = list(TASTES)
    return [
        PastWatches(
            "u", [f"{tastes[(first + n) % 4]}{(row + n) % 5}" for n in range(3)], [True] * 3
        )
        for first in range(4)
        for row in range(5)
        for _ in range(4)
    ]


def test_a_pattern_is_learned_from_histories_before_the_first_event():
    """Times are not known; the watches count as if they had come evenly."""
    learner = learner_of(catalogue())
    losses = []

    learner.learn_histories(
        histories(),
        RECIPE,
        span_ms=24 * HOUR_MS,
        goes_on=lambda _epoch, loss: losses.append(loss) or True,
    )

    user = example_of("chess0", label="cooking1")
    (similarity_N,) = learner.similarity(learner.encode([user]))
    assert learner.video_ids[similarity_N.argmax()].startswith("cooking")
    assert losses[-1] < losses[0]


def test_histories_of_unknown_videos_teach_nothing():
    """A video that was never uploaded has no row."""
    learner = learner_of([upload("only")])

    learner.learn_histories(
        [PastWatches("u", ["gone", "lost"], [True, False])], RECIPE, span_ms=HOUR_MS
    )

    assert not learner._signals.signals(np.arange(3)).any()


def test_a_new_upload_is_served_as_if_unwatched(tmp_path):
    """The item tower in the bundle gives what the learner says of a video nobody has watched."""
    learner = learner_of([*catalogue(), upload("fresh", category="chess", tags=("rook",))])
    url, manifest = write(learner, tmp_path)

    _, output_ND = ItemEncoder(bundles.load(url)).encode(
        [upload("fresh", category="chess", tags=("rook",))]
    )

    assert manifest.output_dim == SMALL.dim + NUM_SIGNALS + 1
    served_ND = learner._all_vectors()[1][-1:]
    np.testing.assert_allclose(output_ND, served_ND, atol=1e-5)


def test_hot_videos_are_served_hot(tmp_path):
    """Signals travel in the item vectors of the bundle: similarities are those of the learner."""
    learner = learner_of(catalogue())
    learner.count(viewings("trains3", 50) + viewings("chess0", 3, is_completed=False))
    user = example_of("chess0", label="chess1")
    bundle = bundles.load(write(learner, tmp_path)[0])
    items = ItemStore(bundle.manifest.input_dim, bundle.manifest.output_dim)
    items.put_many(bundle.snapshot)

    served = UserEncoder(bundle).encode([user.window], items, [user.window.newest_ms])

    rows = items.rows(learner.video_ids)
    expected = learner.similarity(learner.encode([user]))
    np.testing.assert_allclose(served @ items.outputs_ND[rows].T, expected, atol=1e-4)


@pytest.mark.parametrize("has_live_signals", [True, False])
def test_live_signals_can_be_left_out(has_live_signals):
    """Then vectors are tastes alone, and counting moves nothing."""
    config = dataclasses.replace(SMALL, has_live_signals=has_live_signals)
    learner = learner_of(catalogue(), config)
    user = example_of("chess0", label="chess1")
    before = learner.similarity(learner.encode([user]))

    learner.count(viewings("trains3", 50))

    assert (
        np.array_equal(learner.similarity(learner.encode([user])), before) is not has_live_signals
    )
