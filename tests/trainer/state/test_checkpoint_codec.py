"""A training state goes through a checkpoint and comes out the same."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from contract.errors import ContractError
from contract.process.atomic_write import write_directory
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


def written(snapshot):
    """Return the bytes of the files of *snapshot*, by name."""
    with TemporaryDirectory() as folder:
        directory = Path(folder) / "checkpoint"
        write_directory(directory, snapshot.files())
        return {path.name: path.read_bytes() for path in directory.iterdir()}


def files_of(state):
    """Return the bytes of the files of *state*, none of them shared with another checkpoint."""
    state.windows.forget_base()
    return written(checkpoint_codec.snapshot(state))


@pytest.mark.parametrize("learner", [RecordingLearner, lambda: Learner(SMALL, seed=0)])
def test_a_restored_state_learns_as_an_undisturbed_one(learner):
    """Byte for byte: every file of the next checkpoint is the same."""
    state = lived(state_of(learner=learner()))
    restored = state_of(learner=learner())
    checkpoint_codec.restore(restored, files_of(state))

    undisturbed, resumed = (files_of(go_on(one)) for one in (state, restored))

    assert undisturbed.keys() == resumed.keys()
    assert [name for name in undisturbed if undisturbed[name] != resumed[name]] == []


def test_a_checkpoint_of_0_2_is_read():
    """It knows neither who has counted today nor what waits for its upload."""
    files = files_of(lived(state_of()))
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
        checkpoint_codec.restore(restored, files_of(ahead))
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
    files = files_of(lived(state_of()))
    del files[checkpoint_codec.POPULARITY]

    with pytest.raises(ContractError, match="other code or of another configuration"):
        checkpoint_codec.restore(state_of(), files)


def test_a_checkpoint_of_another_configuration_is_refused():
    files = files_of(lived(state_of(learner=Learner(SMALL, seed=0))))

    with pytest.raises(ContractError, match="other code or of another configuration"):
        checkpoint_codec.restore(state_of(learner=Learner(replace(SMALL, dim=32), seed=0)), files)


def test_counters_of_other_videos_than_the_models_are_rejected():
    """Rows would mean other videos."""
    files = files_of(lived(state_of()))
    other = files_of(state_of(upload("x")))

    with pytest.raises(ContractError, match="videos of its model"):
        checkpoint_codec.restore(
            state_of(), {**files, checkpoint_codec.LEARNER: other[checkpoint_codec.LEARNER]}
        )


def test_a_snapshot_does_not_change_when_learning_goes_on():
    """Another thread makes the files of it meanwhile."""
    state = lived(state_of(learner=Learner(SMALL, seed=0)))
    snapshot = checkpoint_codec.snapshot(state)
    before = written(snapshot)

    go_on(state)

    assert written(snapshot) == before


def test_arrays_that_cannot_be_written_are_an_error_of_the_disk(tmp_path):
    """As any other file: it is logged, and the next checkpoint tries again."""
    with pytest.raises(OSError, match=r"learner\.safetensors cannot be written"):
        checkpoint_codec._write_arrays(
            {"x": np.zeros(3)}, tmp_path / "gone" / "learner.safetensors"
        )
