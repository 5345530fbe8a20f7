"""One suite for the real learners and the test double: what the trainer relies on."""

import json

import numpy as np
import pytest

from models.features.examples import Example
from models.history.history import EMPTY
from models.training.frozen import NUM_FROZEN
from tests.support.builders import T0, upload
from tests.support.bundles import SMALL
from tests.trainer.doubles import RecordingLearner
from trainer.learn.learner import Learner

EXAMPLES = [Example(f"u{n}", EMPTY, f"v{n}", T0 + n) for n in range(3)]


class LearningConformance:
    """Subclass it, and give a `new` fixture that returns a fresh learner at each call."""

    @pytest.fixture
    def learner(self, new):
        """A learner that knows v0 to v3."""
        learner = new()
        for n in range(4):
            learner.upload(upload(f"v{n}"))
        return learner

    def test_the_order_of_videos_only_grows(self, learner):
        """Columns and rows keep their videos, whatever is uploaded again or taken down."""
        learner.remove("v1")
        learner.upload(upload("v0", category="chess"))
        learner.upload(upload("v9"))

        assert learner.video_ids == ["v0", "v1", "v2", "v3", "v9"]
        assert learner.is_live_N.tolist() == [True, False, True, True, True]

    def test_a_video_uploaded_again_is_back_in_its_place(self, learner):
        learner.remove("v1")
        learner.upload(upload("v1"))

        assert learner.video_ids == ["v0", "v1", "v2", "v3"]
        assert learner.is_live_N.all()

    def test_an_upload_returns_whether_a_known_video_has_changed(self, learner):
        """New vectors are due then; a new video, or the same upload again, changes nothing."""
        learner.remove("v1")

        changes = [upload("v0"), upload("v0", category="chess"), upload("v1"), upload("v9")]

        assert [learner.upload(one) for one in changes] == [False, True, True, False]

    def test_similarity_has_a_column_for_each_video(self, learner):
        learner.remove("v1")

        similarity_BN = learner.similarity(learner.encode(EXAMPLES))

        assert similarity_BN.shape == (3, 4)
        assert np.abs(similarity_BN).max() <= 1.0 + 1e-5

    def test_learning_returns_a_loss_and_touches_videos(self, learner):
        loss = learner.learn(learner.encode(EXAMPLES))

        assert np.isfinite(loss)
        assert learner.drain_touched() == {"v0", "v1", "v2"}
        assert learner.drain_touched() == set()

    def test_what_was_taken_down_is_not_touched(self, learner):
        learner.learn(learner.encode(EXAMPLES))
        learner.remove("v1")

        assert learner.drain_touched() == {"v0", "v2"}

    def test_vectors_are_of_a_kept_generation(self, learner):
        """As many as the trainer counts on are kept; an older one is an error, never a guess."""
        for generation in range(1, NUM_FROZEN + 2):
            learner.freeze(generation)

        input_nD, output_nD = learner.vectors(["v2", "v0"], generation=2)
        assert len(input_nD) == len(output_nD) == 2
        np.testing.assert_allclose(np.linalg.norm(output_nD, axis=1), 1.0, atol=1e-5)
        with pytest.raises(ValueError, match="generation 1 is not kept"):
            learner.vectors(["v0"], generation=1)

    def test_vectors_of_a_video_taken_down_are_an_error(self, learner):
        learner.freeze(1)
        learner.remove("v1")

        with pytest.raises(ValueError, match="known"):
            learner.vectors(["v1"], generation=1)

    def test_a_snapshot_holds_the_live_videos_with_their_own_features(self, learner):
        learner.remove("v1")
        features_NF = np.arange(4 * 5, dtype=np.float64).reshape(4, 5)

        snapshot = learner.snapshot(features_NF)

        assert snapshot.video_ids == ["v0", "v2", "v3"]
        assert snapshot.features.tolist() == features_NF[[0, 2, 3]].tolist()

    def test_the_state_is_restored_exactly(self, learner, new):
        """Through JSON, as in a checkpoint: the same step gives the same state."""
        learner.learn(learner.encode(EXAMPLES))
        learner.freeze(1)
        learner.remove("v3")
        arrays, meta = learner.state()
        resumed = new()

        resumed.load_state(arrays, json.loads(json.dumps(meta)))
        for one in (learner, resumed):
            one.drain_touched()
            one.learn(one.encode(EXAMPLES[:2]))

        (arrays, meta), (resumed_arrays, resumed_meta) = learner.state(), resumed.state()
        assert resumed_meta == meta
        assert {name: a.tobytes() for name, a in resumed_arrays.items()} == {
            name: a.tobytes() for name, a in arrays.items()
        }


class TestLearner(LearningConformance):
    @pytest.fixture
    def new(self):
        return lambda: Learner(SMALL, seed=0)


class TestRecordingLearner(LearningConformance):
    @pytest.fixture
    def new(self):
        return RecordingLearner
