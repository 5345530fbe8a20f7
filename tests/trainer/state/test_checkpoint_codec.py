"""A training state goes through a checkpoint and comes out the same."""

from dataclasses import replace

import msgspec
import pytest
from structlog.testing import capture_logs

from contract.errors import ContractError
from contract.process.clock import ManualClock
from models.history.history import DAY_MS
from tests.support.builders import T0, search, upload, watch
from tests.support.bundles import SMALL
from tests.trainer.doubles import RecordingLearner, state_of
from trainer.learn.learner import Learner
from trainer.state import checkpoint_codec

VIDEOS = [upload(f"v{n}", tags=(f"tag{n}",)) for n in range(12)]


def lived(state):
    """Give *state* a past: batches learned, one that waits, a generation, a takedown."""
    for video in VIDEOS:
        state.upload(video)
    for n in range(10):
        state.watch(watch(f"v{n}", user_id=f"u{n % 3}", at_ms=n))
        if n in (3, 6):
            state.learn()
    state.freeze(1)
    state.search(search("soup", user_id="u1", at_ms=20))
    state.take_down("v11")
    state.watch(watch("v10", user_id="u1", at_ms=21))
    state.learn()
    state.watch(watch("v0", user_id="u1", at_ms=22))
    state.watch(watch("unheard-of", user_id="u1", at_ms=23))
    return state


def go_on(state):
    """Live on: the batch that waits, a repeated event, new ones, what is touched."""
    state.watch(watch("v0", user_id="u1", at_ms=22))
    state.watch(watch("v9", user_id="u2", at_ms=23))
    state.upload(upload("unheard-of"))
    state.learn()
    state.freeze(2)
    return state


@pytest.mark.parametrize("learner", [RecordingLearner, lambda: Learner(SMALL, seed=0)])
def test_a_restored_state_learns_as_an_undisturbed_one(learner):
    """Byte for byte: every file of the next checkpoint is the same."""
    state = lived(state_of(learner=learner()))
    restored = state_of(learner=learner())
    checkpoint_codec.restore(restored, checkpoint_codec.to_files(state))

    undisturbed, resumed = (checkpoint_codec.to_files(go_on(one)) for one in (state, restored))

    assert undisturbed.keys() == resumed.keys()
    assert [name for name in undisturbed if undisturbed[name] != resumed[name]] == []


def test_a_checkpoint_of_0_2_is_read():
    """It knows neither who has counted today nor what waits for its upload."""
    files = checkpoint_codec.to_files(lived(state_of()))
    del files[checkpoint_codec.VIEWERS]
    rest = msgspec.msgpack.decode(files[checkpoint_codec.REST])
    del rest["waiting"]
    rest["pending"]["viewings"] = [one[:4] for one in rest["pending"]["viewings"]]
    restored = state_of()
    checkpoint_codec.restore(
        restored, files | {checkpoint_codec.REST: msgspec.msgpack.encode(rest)}
    )

    assert len(restored.pending.viewings) == 1
    assert len(restored.waiting) == 0


def test_clocks_of_a_checkpoint_in_the_future_are_turned_back():
    """An event of next year was counted before such were refused; the restart cures it."""
    ahead = state_of(upload("v1"), learner=learner_with_signals())
    ahead.watch(watch("v1", at_ms=400 * DAY_MS))
    ahead.learn()
    restored = state_of(learner=learner_with_signals(), clock=ManualClock(T0))
    with capture_logs() as told:
        checkpoint_codec.restore(restored, checkpoint_codec.to_files(ahead))
    restored.watch(watch("v1", user_id="u2", at_ms=0))
    restored.learn()

    assert [line["event"] for line in told] == ["clocks_turned_back"]
    assert restored.popularity.popularity_N[1] == pytest.approx(2.0)
    assert restored.learner._signals.newest_ms == T0
    assert restored.learner._frequency.newest_ms == T0


def learner_with_signals():
    """Return a learner whose item vectors have live signals."""
    return Learner(SMALL, seed=0)


def test_a_checkpoint_of_other_code_is_refused():
    files = checkpoint_codec.to_files(lived(state_of()))
    del files[checkpoint_codec.POPULARITY]

    with pytest.raises(ContractError, match="other code or of another configuration"):
        checkpoint_codec.restore(state_of(), files)


def test_a_checkpoint_of_another_configuration_is_refused():
    files = checkpoint_codec.to_files(lived(state_of(learner=Learner(SMALL, seed=0))))

    with pytest.raises(ContractError, match="other code or of another configuration"):
        checkpoint_codec.restore(state_of(learner=Learner(replace(SMALL, dim=32), seed=0)), files)


def test_counters_of_other_videos_than_the_models_are_rejected():
    """Rows would mean other videos."""
    files = checkpoint_codec.to_files(lived(state_of()))
    other = checkpoint_codec.to_files(state_of(upload("x")))

    with pytest.raises(ContractError, match="videos of its model"):
        checkpoint_codec.restore(
            state_of(), {**files, checkpoint_codec.LEARNER: other[checkpoint_codec.LEARNER]}
        )


def test_a_snapshot_does_not_change_when_learning_goes_on():
    """Another thread makes the files of it meanwhile."""
    state = lived(state_of(learner=Learner(SMALL, seed=0)))
    snapshot = checkpoint_codec.snapshot(state)
    before = snapshot.files()

    go_on(state)

    assert snapshot.files() == before
