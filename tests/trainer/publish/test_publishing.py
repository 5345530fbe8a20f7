"""Bundles and item vectors: what they hold, and what is withheld."""

import json
from pathlib import Path

import fsspec
import msgspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from structlog.testing import capture_logs

from contract.errors import BundleError
from contract.process.clock import ManualClock
from contract.wire.events import BundleState, ItemVector
from contract.wire.topics import Layout
from models.bundle import bundle
from models.serving.encoder import ItemEncoder
from tests.support.builders import T0, upload, watch
from tests.support.bundles import SMALL
from tests.support.memory_outbox import MemoryOutbox
from tests.trainer.doubles import JournalOutbox, RecordingLearner, state_of
from trainer.learn.learner import Learner
from trainer.publish.publishing import (
    BASELINE,
    GUARDED,
    MIN_GUARDED_EXAMPLES,
    BundlePublisher,
    ranking_features,
    why_withheld,
)

VIDEOS = [upload(f"v{n}", tags=(f"tag{n}",)) for n in range(6)]


@pytest.fixture
def publisher(tmp_path):
    """A publisher into a fresh directory."""
    return BundlePublisher(
        JournalOutbox(), Layout(prefix="test-"), f"file://{tmp_path}/bundles", ManualClock(T0), 3
    )


def sent_vectors(publisher):
    """Return the item vectors that were sent."""
    return [msgspec.json.decode(sent.value, type=ItemVector) for sent in publisher.outbox.sent]


def watched(state):
    """Let somebody watch v0 and v1, learned from."""
    for n in range(2):
        state.watch(watch(f"v{n}", at_ms=n))
    state.learn()
    return state


def test_an_announced_bundle_loads_and_holds_every_video(publisher):
    state = watched(state_of(*VIDEOS, learner=Learner(SMALL, seed=0)))

    announced = publisher.prepare(state, 4, {"watch-events": {0: 2}})

    loaded = bundle.load(announced.url, manifest_sha256=announced.manifest_sha256)
    assert (announced.generation, announced.state) == (4, BundleState.OFFERED)
    assert loaded.manifest.offsets == {"watch-events": {"0": 2}}
    assert loaded.snapshot.video_ids == [video.video_id for video in VIDEOS]
    assert loaded.snapshot.features[:2, 0].tolist() == pytest.approx([1.0, 1.0])
    assert announced.metrics["progressive_examples"] == 2.0


def test_a_cold_bundle_knows_new_videos_by_content_alone(publisher):
    """Before anything is learned, snapshot and item tower say the same of a video."""
    state = state_of(*VIDEOS, learner=Learner(SMALL, seed=0))

    loaded = bundle.load(publisher.prepare(state, 1, {}).url)

    _, output_ND = ItemEncoder(loaded).encode(VIDEOS)
    np.testing.assert_allclose(output_ND, loaded.snapshot.output_ND, atol=1e-5)


def test_a_bundle_of_an_empty_catalogue_is_a_bundle(publisher):
    """A fresh installation starts before its first upload."""
    state = state_of(learner=Learner(SMALL, seed=0))

    assert bundle.load(publisher.prepare(state, 1, {}).url).snapshot.video_ids == []


def test_a_relative_place_is_announced_as_an_absolute_one(tmp_path, monkeypatch):
    """Readers work in other directories."""
    monkeypatch.chdir(tmp_path)
    publisher = BundlePublisher(JournalOutbox(), Layout(), "file://bundles", ManualClock(T0))

    url = publisher.prepare(state_of(), 1, {}).url

    assert url.startswith(f"file://{tmp_path}/bundles/")


def test_vectors_are_of_the_generation_they_are_sent_for(publisher):
    state = state_of(*VIDEOS, learner=Learner(SMALL, seed=0))
    publisher.prepare(state, 1, {})
    watched(state)
    expected = state.learner.vectors(["v0"], generation=1)

    num_sent = publisher.publish_vectors(state, 1, most=10)

    first = sent_vectors(publisher)[0]
    assert (num_sent, first.video_id, first.generation, first.origin) == (2, "v0", 1, "training")
    np.testing.assert_allclose(first.input_vector, expected[0][0], atol=1e-6)
    np.testing.assert_allclose(first.output_vector, expected[1][0], atol=1e-6)
    assert first.features.popularity == 1.0
    assert publisher.outbox.journal[-1] == ("acknowledged",)


def test_components_are_short_on_the_wire(publisher):
    """The digits of a float32 written as a float64 would be half of the record."""
    state = watched_after_freeze(Learner(SMALL, seed=0))

    publisher.publish_vectors(state, 1, most=1)

    [sent] = publisher.outbox.sent
    components = json.loads(sent.value)["output_vector"]
    assert max(len(repr(component)) for component in components) <= len("-0.123456")


def watched_after_freeze(learner):
    """Return a training state with generation 1 and two videos touched since."""
    state = state_of(*VIDEOS, learner=learner)
    state.freeze(1)
    return watched(state)


def test_vectors_that_are_not_finite_are_not_published(publisher):
    learner = RecordingLearner()
    state = watched_after_freeze(learner)
    learner._vectors = lambda video_ids: np.array([[np.nan] * 4, [1.0] * 4], np.float32)

    publisher.publish_vectors(state, 1, most=10)

    assert [vector.video_id for vector in sent_vectors(publisher)] == ["v1"]


def test_a_video_taken_down_is_not_sent(publisher):
    state = watched_after_freeze(RecordingLearner())

    state.take_down("v0")
    publisher.publish_vectors(state, 1, most=10)

    assert [vector.video_id for vector in sent_vectors(publisher)] == ["v1"]


def test_a_bundle_with_values_that_are_not_finite_is_refused(publisher):
    learner = RecordingLearner()
    learner._vectors = lambda video_ids: np.full((len(video_ids), 4), np.inf, np.float32)

    with pytest.raises(BundleError):
        publisher.prepare(state_of(*VIDEOS, learner=learner), 1, {})


def test_the_newest_bundles_are_kept(publisher):
    state = state_of(*VIDEOS)
    for generation in range(1, 6):
        publisher.clock.advance(ms=1)
        publisher.prepare(state, generation, {})
    _, root = fsspec.core.url_to_fs(publisher.bundle_url)
    (Path(root) / "somebody-elses").mkdir()

    publisher.discard_old()

    left = sorted(path.name.rpartition("-")[2] for path in Path(root).iterdir())
    assert left == ["elses", "g3", "g4", "g5"]


def test_drafts_of_a_trainer_that_was_killed_are_deleted(publisher):
    """Each is as large as a bundle, and their names never come again."""
    publisher.prepare(state_of(*VIDEOS), 2, {})
    _, root = fsspec.core.url_to_fs(publisher.bundle_url)
    for name in (f"b{T0 - 1:014d}-g1.tmp", "somebody-elses.tmp"):
        (Path(root) / name).mkdir()

    publisher.discard_old()

    left = sorted(path.name.rpartition("-")[2] for path in Path(root).iterdir())
    assert left == ["elses.tmp", "g2"]


def test_a_store_that_does_not_answer_does_not_end_the_trainer(publisher, monkeypatch):
    """Old bundles are deleted after the next one."""
    publisher.prepare(state_of(*VIDEOS), 1, {})

    def fail(*_, **__):
        raise RuntimeError("503 Slow Down")

    monkeypatch.setattr(LocalFileSystem, "ls", fail)
    with capture_logs() as logs:
        publisher.discard_old()
    assert [entry["event"] for entry in logs] == ["bundles_not_discarded"]


def test_features_on_the_wire_stay_in_the_bounds_of_the_contract():
    counters = [12.34567, 1.0 + 1e-12, 1.234567]
    codes = [1.0, 2.0, 3.0, 0.0]
    features = ranking_features(
        [0.12345, 1_234.56, 1.0 + 1e-12, 30_000.0, float(T0), *counters, *codes]
    )

    assert (features.popularity, features.mean_watch_ms) == (0.123, 1_234.6)
    assert (features.completion_rate, features.duration_ms) == (1.0, 30_000)
    assert (features.impressions, features.watch_rate, features.watch_lift) == (12.346, 1.0, 1.2346)
    assert (features.channel, features.category, features.tag, features.language) == (1, 2, 3, 0)


def metrics(model, baseline, num_examples=MIN_GUARDED_EXAMPLES):
    """Return what the guard looks at."""
    return {GUARDED: model, BASELINE: baseline, "progressive_examples": float(num_examples)}


@pytest.mark.parametrize(
    ("now", "before", "is_withheld"),
    [
        (metrics(0.20, 0.1), metrics(0.20, 0.1), False),
        (metrics(0.11, 0.1), metrics(0.20, 0.1), False),
        (metrics(0.09, 0.1), metrics(0.20, 0.1), True),
        # the audience changed, and the baseline fell with the model
        (metrics(0.09, 0.04), metrics(0.20, 0.1), False),
        (metrics(0.09, 0.1, num_examples=10), metrics(0.20, 0.1), False),
        (metrics(0.0, 0.0), {}, False),
        (metrics(0.0, 0.0), metrics(0.0, 0.0), False),
        (metrics(0.01, 0.0), metrics(0.20, 0.0), True),
    ],
)
def test_a_model_that_collapsed_is_withheld(now, before, is_withheld):
    assert (why_withheld(now, before) is not None) == is_withheld


def test_the_bundle_in_service_stays_however_many_come_after_it(tmp_path):
    """The index was away, and the only bundle that serves was deleted; a clock went back, too."""
    clock = ManualClock(T0)
    publisher = BundlePublisher(MemoryOutbox(), Layout(), f"file://{tmp_path}", clock, 3)
    names = []
    for generation in range(1, 8):
        clock.now_ms = T0 - generation
        names.append(f"b{clock.now_ms:014d}-g{generation}")
        (tmp_path / names[-1]).mkdir()
    publisher.discard_old({names[0]})

    assert {path.name for path in tmp_path.iterdir()} == {names[0], *names[-3:]}
