"""Every model of the table learns, hands over and serves through the one learner."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from contract.wire.events import Context
from models.bundle import bundle as bundles
from models.features.examples import Example
from models.features.features import MAX_WATCHES
from models.history.history import EMPTY, WindowPolicy, fold
from models.serving.encoder import UserEncoder
from models.serving.items import ItemStore
from models.towers.presets import OF_SEQUENCES, RETRIEVERS
from models.towers.registry import USER_TOWERS
from models.training.sequence_training import Recipe
from tests.support.builders import T0, search, watch
from tests.support.bundles import SMALL, TASTES, catalogue, learner_of, write
from trainer.learn import registry
from trainer.learn.histories import PastWatches
from trainer.settings import TrainerSettings

NAMES = sorted(USER_TOWERS)
ARRAYS = json.loads((Path(__file__).parents[1] / "data" / "checkpoint_arrays.json").read_text())
"""The arrays of a checkpoint by model, as 0.2.0 wrote them."""
SIZES = ("hidden_dim", "context_dim", "context_buckets", "num_negatives")


def config_of(name):
    """Return the preset of the trainer, at the sizes that tests can afford."""
    small = {field: getattr(SMALL, field) for field in SIZES}
    return dataclasses.replace(
        RETRIEVERS[name], **small, dim=32, content_buckets=512, replay_size=64, num_replayed=16
    )


def window_of(*video_ids):
    events = [watch(video_id, at_ms=n) for n, video_id in enumerate(video_ids)]
    return fold(EMPTY, events, WindowPolicy())


def example(*watched, label):
    return Example("u", window_of(*watched), label, T0 + 1_000)


def who_watches(age_group, *, label):
    context = Context(age_group=age_group)
    window = fold(EMPTY, [watch("cooking0", context=context)], WindowPolicy())
    return Example("u", window, label, T0 + 1_000)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_has_the_arrays_that_earlier_versions_wrote(name):
    """A parameter with another name would make a trainer refuse what it has learned."""
    arrays, _ = learner_of(catalogue(), config_of(name)).state()

    assert set(ARRAYS[name]) <= set(arrays)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_with_the_arrays_of_earlier_versions_alone_is_read(name):
    learner = learner_of(catalogue(), config_of(name))
    arrays, meta = learner.state()

    learner.load_state({one: arrays[one] for one in ARRAYS[name]}, meta)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_learns_from_a_stream(name):
    """After soup comes goal: what untrained content would never say is learned in a few steps."""
    learner = learner_of(catalogue(), config_of(name))
    batch = [example(f"cooking{n}", label=f"football{n}") for n in range(5)] * 4

    losses = [learner.learn(learner.encode(batch)) for _ in range(15)]

    best = learner.similarity(learner.encode(batch)).argmax(axis=1)
    assert losses[-1] < losses[0]
    assert all(learner.video_ids[column].startswith("football") for column in best)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_learns_from_age_group_and_gender(name):
    """One watch of the same video, and what comes next depends on the age group alone."""
    learner = learner_of(catalogue(), config_of(name))
    batch = [
        who_watches(age_group, label=f"{taste}{n}")
        for age_group, taste in (("13-17", "chess"), ("55-64", "trains"))
        for n in range(5)
    ] * 2

    for _ in range(30):
        learner.learn(learner.encode(batch))

    best = [
        learner.video_ids[column]
        for column in learner.similarity(learner.encode(batch)).argmax(axis=1)
    ]
    assert [one[:5] for one in best] == [example.video_id[:5] for example in batch]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_serves_what_it_has_learned(name, tmp_path):
    """The bundle's user tower and vectors give the similarities of the learner itself."""
    learner = learner_of(catalogue(15), config_of(name))
    learner.learn(learner.encode([example("cooking0", "cooking1", label="chess0")]))
    url, _ = write(learner, tmp_path)
    bundle = bundles.load(url)
    items = ItemStore(bundle.manifest.input_dim, bundle.manifest.output_dim)
    items.put_many(bundle.snapshot)
    windows = [
        fold(EMPTY, [watch("chess1", at_ms=1), search("goal", at_ms=2)], WindowPolicy()),
        window_of(*(f"{taste}{n}" for n in range(15) for taste in TASTES)),
        EMPTY,
    ]
    now_ms = [window.newest_ms for window in windows]

    served = UserEncoder(bundle).encode(windows, items, now_ms) @ items.outputs_ND[1:].T

    asked = [Example("u", window, "chess0", T0) for window in windows]
    assert len(windows[1].watches) == MAX_WATCHES
    np.testing.assert_allclose(served, learner.similarity(learner.encode(asked)), atol=1e-4)


@pytest.mark.parametrize("name", ["sasrec", "youtube_dnn"])
def test_a_model_goes_on_from_its_histories(name):
    """What was learned beforehand is there when the stream begins, and is not swept away by it."""
    learner = learner_of(catalogue(), config_of(name))
    tastes = list(TASTES)
    past = [
        PastWatches("u", [f"{tastes[(n + step) % 4]}{n % 5}" for step in range(6)], [True] * 6)
        for n in range(20)
    ]
    recipe = Recipe(num_epochs=15, batch_size=8, learning_rate=1e-2, warm_up_steps=1, dropout=0.0)

    learner.learn_histories(past, recipe, span_ms=1_000)
    learner.learn(learner.encode([example("chess0", label="cooking0")]))

    asked = [example(f"{taste}{n}", label="chess0") for taste in tastes for n in range(5)]
    best = [
        learner.video_ids[column]
        for column in learner.similarity(learner.encode(asked)).argmax(axis=1)
    ]
    right = [f"{tastes[(at + 1) % 4]}{n}" for at in range(4) for n in range(5)]
    assert np.mean([one == other for one, other in zip(best, right, strict=True)]) > 0.9


def test_every_tower_has_its_presets_and_its_name_in_the_settings():
    """One line in each table; the settings list the names without loading torch."""
    model = TrainerSettings.model_fields["model"]

    assert sorted(RETRIEVERS) == NAMES
    assert sorted(OF_SEQUENCES) == NAMES
    assert all(config.model == name for name, config in RETRIEVERS.items())
    assert all(preset.config.model == name for name, preset in OF_SEQUENCES.items())
    assert sorted(model.annotation.__args__) == sorted(registry.NAMES)
    assert RETRIEVERS[model.default] == type(SMALL)()
