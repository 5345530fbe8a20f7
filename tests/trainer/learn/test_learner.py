"""The learner: it learns, it can be stopped and resumed, and it keeps generations apart."""

import dataclasses
import json
import math
import random

import numpy as np
import pytest

from models.bundle import bundle as bundles
from models.features.examples import Example, cap_per_user
from models.history.history import EMPTY, WindowPolicy, fold
from models.serving.encoder import UserEncoder
from models.serving.items import ItemStore
from models.training.item2vec import Item2VecConfig, item2vec
from tests.support.builders import T0, upload, watch
from tests.support.bundles import SMALL, TASTES, catalogue, learner_of, no_features, write
from trainer.learn.learner import Learner


def window_of(*video_ids, at_ms=0):
    events = [watch(video_id, at_ms=at_ms + n) for n, video_id in enumerate(video_ids)]
    return fold(EMPTY, events, WindowPolicy())


def example(*watched, label, user_id="u", at_ms=100):
    return Example(user_id, window_of(*watched), label, T0 + at_ms)


def pairs(count, *, seed=0):
    """Return examples of a pattern that content cannot tell: after taste n comes taste n + 1."""
    rng, tastes = random.Random(seed), list(TASTES)
    examples = []
    for n in range(count):
        taste = rng.randrange(len(tastes))
        following = tastes[(taste + 1) % len(tastes)]
        watched = [f"{tastes[taste]}{rng.randrange(5)}" for _ in range(2)]
        label = f"{following}{rng.randrange(5)}"
        examples.append(example(*watched, label=label, user_id=f"u{n}", at_ms=100 + n))
    return examples


def batches(examples, size=16):
    return [examples[n : n + size] for n in range(0, len(examples), size)]


def share_of_next_taste(learner, examples):
    """Return how often the nearest video is of the taste that the pattern says comes next."""
    best = learner.similarity(learner.encode(examples)).argmax(axis=1)
    named = [learner.video_ids[column] for column in best]
    return np.mean([a[:4] == b.video_id[:4] for a, b in zip(named, examples, strict=True)])


def test_a_planted_pattern_is_learned():
    """Untrained it recommends more of the same; then what in truth comes next."""
    learner = learner_of(catalogue())
    unseen = pairs(64, seed=1)
    assert share_of_next_taste(learner, unseen) < 0.2

    for batch in batches(pairs(1_600)):
        learner.learn(learner.encode(batch))

    assert share_of_next_taste(learner, unseen) > 0.9


def test_the_loss_falls_to_the_entropy_of_the_pattern():
    """The next video is one of five, as likely each: log 5 is all that can be known."""
    learner = learner_of(catalogue())

    losses = [learner.learn(learner.encode(batch)) for batch in batches(pairs(800))]

    assert losses[0] > 2.5
    assert np.mean(losses[-10:]) == pytest.approx(math.log(5), abs=0.15)


@pytest.mark.parametrize(
    ("loss", "negatives"),
    [
        ("sampled_softmax", "in_batch"),
        ("sampled_softmax", "frequency"),
        ("nce", "uniform"),
        ("gbce", "uniform"),
        ("bpr_max", "frequency"),
        ("hierarchical_softmax", "uniform"),
    ],
)
def test_a_planted_pattern_is_learned_by_every_loss(loss, negatives):
    """What comes next is found whichever way the model is told of its mistakes."""
    config = dataclasses.replace(SMALL, loss=loss, negatives=negatives)
    learner = learner_of(catalogue(), config)

    for batch in batches(pairs(960)):
        learner.learn(learner.encode(batch))

    assert share_of_next_taste(learner, pairs(64, seed=1)) > 0.7


def test_a_cap_leaves_a_heavy_watcher_no_more_examples_than_others():
    """The oldest of a user's examples in a batch are not learned from."""
    learner = learner_of(catalogue(), dataclasses.replace(SMALL, max_per_user=1))

    learner.learn(
        learner.encode([example("chess0", label=f"trains{n}", at_ms=100 + n) for n in range(3)])
    )

    assert learner.drain_touched() == {"chess0", "trains2"}


@pytest.mark.parametrize(("batch_size", "sizes"), [(8, [8]), (20, [10, 10]), (64, [16] * 4)])
def test_each_example_of_a_batch_is_learned_from_in_one_step(batch_size, sizes):
    """A large batch takes larger steps, four at most; nothing is visited twice."""
    learner = learner_of(catalogue(), dataclasses.replace(SMALL, num_replayed=0))
    stepped = []
    learner._step = lambda slots: stepped.append(slots.tolist()) or 0.0

    learner.learn(learner.encode(pairs(batch_size)))

    assert [len(slots) for slots in stepped] == sizes
    assert [slot for slots in stepped for slot in slots] == list(range(batch_size))


@pytest.mark.parametrize("has_example_age", [True, False])
def test_the_age_of_examples_can_be_left_out(has_example_age):
    """Two batches that differ in nothing but their ages: only one kind of model tells them."""
    fresh = pairs(8)
    stale = [one._replace(event_time_ms=T0 - 10**9) for one in fresh[:-1]] + fresh[-1:]
    config = dataclasses.replace(SMALL, has_example_age=has_example_age)
    similarities = []
    for batch in (fresh, stale):
        learner = learner_of(catalogue(), config)
        learner.learn(learner.encode(batch))
        similarities.append(learner.similarity(learner.encode(fresh)))

    assert np.array_equal(*similarities) is not has_example_age


def test_a_learner_starts_from_vectors_learned_before():
    """Content says that two videos are far apart, the histories of users that they are near."""
    learner = learner_of(catalogue(), dataclasses.replace(SMALL, has_live_signals=False))
    chess, trains = (learner.video_ids.index(name) for name in ("chess0", "trains0"))
    before = learner.similarity(learner.encode([example("chess0", label="chess1")]))[0, trains]
    others = [row for row in range(1, 21) if row not in (chess + 1, trains + 1)]
    sequences = [[chess + 1, trains + 1, 20, chess + 1], others] * 40
    config = Item2VecConfig(dim=SMALL.dim, subsampling=1.0, pairs_per_step=512)
    together = item2vec(sequences, config, num_videos=20, seed=0)

    learner.start_from(together)

    assert (
        learner.similarity(learner.encode([example("chess0", label="chess1")]))[0, trains]
        > before + 0.3
    )


def test_scoring_learns_nothing():
    """Progressive validation looks, and leaves everything as it is."""
    learner = learner_of(catalogue())
    learner.learn(learner.encode(pairs(16)))
    before = learner.state()

    learner.similarity(learner.encode(pairs(16, seed=5)))

    assert_equal_states(learner.state(), before)


def test_similarity_has_a_column_for_every_upload_in_order():
    """Videos taken down keep theirs and are masked."""
    learner = learner_of(catalogue())
    learner.remove("cooking1")
    learner.upload(upload("late"))

    similarity = learner.similarity(learner.encode(pairs(3)))

    assert similarity.shape == (3, 21)
    assert learner.video_ids[-1] == "late"
    assert not learner.is_live_N[learner.video_ids.index("cooking1")]
    assert learner.is_live_N.sum() == 20
    assert np.abs(similarity).max() <= 1.0 + 1e-5


def test_unknown_and_removed_videos_are_not_labels():
    """BAD_INPUT 82: nothing is learned from a watch of what was never uploaded."""
    learner = learner_of(catalogue())
    learner.remove("chess0")
    before = learner.state()

    loss = learner.learn(
        learner.encode([example("cooking0", label="nobody"), example(label="chess0")])
    )

    assert loss == 0.0
    assert_equal_states(learner.state(), before)


def test_an_empty_catalogue_has_no_scores():
    """The very first events may come before any upload."""
    learner = Learner(SMALL, seed=0)

    assert learner.similarity(learner.encode([example(label="x")])).shape == (1, 0)
    assert learner.learn(learner.encode([example(label="x")])) == 0.0


def assert_equal_states(one, other):
    arrays, meta = one
    other_arrays, other_meta = other
    assert meta == other_meta
    assert arrays.keys() == other_arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, other_arrays[name], name)


def test_learning_goes_on_bit_for_bit_after_a_restart():
    """Weights, moments, draws, replay, frozen towers: all of it is in the state."""
    # undisturbed   1 2 3 | 4 5 6
    # restarted     1 2 3 # 4 5 6
    first, second = batches(pairs(48)), batches(pairs(48, seed=2))
    undisturbed = learner_of(catalogue())
    for batch in first:
        undisturbed.learn(undisturbed.encode(batch))
    undisturbed.freeze(1)
    arrays, meta = undisturbed.state()

    restarted = Learner(SMALL, seed=99)
    restarted.load_state(arrays, json.loads(json.dumps(meta)))
    losses = [
        [learner.learn(learner.encode(b)) for b in second] for learner in (undisturbed, restarted)
    ]

    assert losses[0] == losses[1]
    assert_equal_states(restarted.state(), undisturbed.state())


def test_what_the_fast_path_still_owes_survives_a_restart():
    """Touched videos that were not yet published are published after it."""
    learner = learner_of(catalogue())
    learner.learn(learner.encode([example("cooking0", label="chess1")]))
    restarted = Learner(SMALL, seed=0)
    restarted.load_state(*learner.state())

    assert restarted.drain_touched() == {"cooking0", "chess1"}


def test_a_state_is_a_copy():
    """Learning on does not change what is being written to the checkpoint."""
    learner = learner_of(catalogue())
    arrays, _ = learner.state()
    kept = {name: array.copy() for name, array in arrays.items()}

    learner.learn(learner.encode(pairs(16)))

    for name, array in arrays.items():
        np.testing.assert_array_equal(array, kept[name], name)


def test_a_state_of_another_model_is_refused():
    """A configuration that was changed is said so, and nothing is half loaded."""
    arrays, meta = learner_of(catalogue()).state()
    wider = Learner(dataclasses.replace(SMALL, hidden_dim=24), seed=0)
    before = wider.state()

    with pytest.raises(ValueError, match="not the state of this model"):
        wider.load_state(arrays, meta)
    assert_equal_states(wider.state(), before)


def test_vectors_of_a_frozen_generation_move_by_their_id_embeddings_alone():
    """Sparse moves fast, dense slowly: untouched videos stand still in the space in service."""
    learner = learner_of([*catalogue(), upload("never", category="opera", tags=())])
    learner = frozen_then_trained(learner)

    before, after = learner.at_freezing, learner.vectors(learner.video_ids, generation=1)

    watched = [n for n, name in enumerate(learner.video_ids) if name.startswith("cooking")]
    assert np.abs(after[1][watched] - before[1][watched]).max() > 1e-3
    dense_alone = learner.snapshot(no_features(learner)).output_ND
    assert np.abs(dense_alone - after[1]).max() > 1e-3


def test_an_upload_of_other_content_moves_a_trained_video_in_the_space_in_service():
    """Its content is embedded anew, and what was learned of it stays on top."""
    learner = frozen_then_trained(learner_of(catalogue()))
    before = learner.vectors(["cooking1"], generation=1)[1]

    assert learner.upload(upload("cooking1", category="chess", tags=("chess",)))

    after = learner.vectors(["cooking1"], generation=1)[1]
    assert np.abs(after - before).max() > 1e-3


def frozen_then_trained(learner):
    learner.freeze(1)
    learner.at_freezing = learner.vectors(learner.video_ids, generation=1)
    for batch in batches(pairs(160)):
        learner.learn(learner.encode(batch))
    return learner


def test_the_vectors_of_a_new_generation_are_those_of_its_bundle():
    """Nothing learned in between: fast path and snapshot say the same."""
    learner = learner_of(catalogue())
    learner.learn(learner.encode(pairs(32)))
    learner.freeze(2)

    input_ND, output_ND = learner.vectors(learner.video_ids, generation=2)

    snapshot = learner.snapshot(no_features(learner))
    np.testing.assert_allclose(input_ND, snapshot.input_ND, atol=1e-6)
    np.testing.assert_allclose(output_ND, snapshot.output_ND, atol=1e-6)


def test_the_last_three_generations_are_kept():
    """Rollback reaches so far; what is older is said to be gone."""
    learner = learner_of(catalogue())
    for generation in range(1, 5):
        learner.freeze(generation)

    learner.vectors(["chess0"], generation=2)
    with pytest.raises(ValueError, match=r"generation 1 is not kept; kept: \[2, 3, 4\]"):
        learner.vectors(["chess0"], generation=1)


def test_videos_of_the_examples_are_touched_and_negatives_are_not():
    """The fast path carries what was learned about, not the whole catalogue."""
    learner = learner_of(catalogue())
    learner.learn(learner.encode([example("cooking0", "gone", label="chess1")]))
    learner.upload(upload("other"))

    assert learner.drain_touched() == {"cooking0", "chess1"}
    assert learner.drain_touched() == set()


def test_a_forgotten_user_teaches_nothing_any_more():
    """What is kept for replay is erased with the user."""
    learner = learner_of(catalogue())
    learner.learn(learner.encode([example("cooking0", label="chess1", user_id="secret")]))

    learner.forget("secret")

    arrays, _ = learner.state()
    assert not any(arrays[name].any() for name in arrays if name.startswith("replay."))


@pytest.mark.parametrize(("num_replayed", "num_kept"), [(0, 0), (1, 8)])
def test_examples_are_kept_only_where_they_are_replayed(num_replayed, num_kept):
    """A trainer that replays nothing holds, and saves, those that wait for a step alone."""
    learner = learner_of(
        catalogue(), dataclasses.replace(SMALL, num_replayed=num_replayed, examples_per_step=4)
    )
    learner.learn(learner.encode(pairs(8)))
    assert len(learner.state()[0]["replay.label_rows"]) == num_kept

    learner.learn(learner.encode(pairs(3)))
    assert len(learner.state()[0]["replay.label_rows"]) == num_kept + 3


def test_a_loss_that_is_not_finite_changes_nothing():
    """One poisoned value does not spread; the caller sees the loss and decides."""
    learner = learner_of(catalogue())
    learner.learn(learner.encode(pairs(16)))
    learner._model.user_tower.out.bias.data[0] = np.nan
    before = {name: array.copy() for name, array in learner._model.state().items()}

    loss = learner.learn(learner.encode(pairs(16, seed=3)))

    assert not np.isfinite(loss)
    for name, array in learner._model.state().items():
        if ".seen_" not in name:  # watched is watched
            np.testing.assert_array_equal(array, before[name], name)


def test_a_bundle_serves_the_vectors_of_the_learner(tmp_path):
    """Through bundle, ONNX and item store, the similarities are those of the learner."""
    learner = learner_of(catalogue())
    for batch in batches(pairs(160)):
        learner.learn(learner.encode(batch))
    examples = pairs(20, seed=7)
    url, _ = write(learner, tmp_path)

    bundle = bundles.load(url)
    items = ItemStore(bundle.manifest.input_dim, bundle.manifest.output_dim)
    items.put_many(bundle.snapshot)
    windows = [one.window for one in examples]
    now_ms = [window.newest_ms for window in windows]
    served = UserEncoder(bundle).encode(windows, items, now_ms)
    rows = items.rows(learner.video_ids)

    np.testing.assert_allclose(
        served @ items.outputs_ND[rows].T, learner.similarity(learner.encode(examples)), atol=1e-4
    )


def test_the_newest_examples_of_each_user_are_kept():
    """In their order, and the others of a heavy watcher are not."""
    assert cap_per_user(["heavy", "light", "heavy", "heavy"], 2) == [1, 2, 3]


def test_a_cap_below_one_is_refused():
    """It would silently learn nothing."""
    with pytest.raises(ValueError, match="at least 1"):
        cap_per_user([], 0)


def test_user_vectors_are_the_same_to_the_last_bit_once_a_bundle_was_made():
    """A repeated journal makes no bundles, and what a ranker learns from has to be the same."""
    learner = learner_of(catalogue())
    learner.learn(learner.encode(pairs(16)))
    users = learner.encode(pairs(16, seed=1)[:1]).users
    before = learner.user_vectors(users)

    learner.snapshot(no_features(learner))

    assert np.array_equal(learner.user_vectors(users), before)
