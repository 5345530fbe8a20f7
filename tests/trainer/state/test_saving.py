"""Checkpoints that are written beside learning."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from benchmarks.stack.inline_executor import InlineExecutor
from tests.support.builders import T0, upload, watch
from tests.trainer.doubles import state_of
from trainer.state import checkpoint_codec
from trainer.state.checkpoint import Checkpoints
from trainer.state.checkpoint_codec import NotFiniteError
from trainer.state.journal import BatchLearned, Journal
from trainer.state.saving import Saving

OFFSETS = {"watch-events": {0: 7}}


class SlowCheckpoints(Checkpoints):
    """Writes nothing before it is told to go on."""

    def __init__(self, directory):
        super().__init__(directory)
        self.goes_on = threading.Event()

    def save(self, *args, **kwargs):
        self.goes_on.wait(10)
        return super().save(*args, **kwargs)


def lived():
    """Return a state with a few windows."""
    state = state_of(upload("v1"), upload("v2"))
    for number in range(10):
        state.watch(watch("v1", user_id=f"u{number}", at_ms=number))
    return state


def restored(directory):
    """Return the state in the newest checkpoint of *directory*."""
    newest, state = Checkpoints(directory).newest(), state_of()
    checkpoint_codec.restore(state, newest.files, newest.directories)
    return state


def test_a_checkpoint_has_the_state_of_its_beginning_whatever_is_learned_meanwhile(tmp_path):
    checkpoints, state = SlowCheckpoints(tmp_path), lived()
    with ThreadPoolExecutor(1) as executor:
        saving = Saving(checkpoints, Journal(tmp_path), executor)
        saving.begin(state, OFFSETS, {}, created_at_ms=T0)
        state.watch(watch("v2", user_id="u1", at_ms=50))
        state.learn()
        assert saving.poll() is None
        checkpoints.goes_on.set()
        saved = saving.poll(wait=True)

    found = restored(tmp_path)
    assert (saved.offsets, found.counts["watches"]) == (OFFSETS, 10)
    assert found.windows.get("u1").video_ids == ("v1",)
    assert len(found.pending.examples) == 10


def test_the_next_checkpoint_shares_the_windows_that_have_not_changed(tmp_path):
    state, saving = lived(), Saving(Checkpoints(tmp_path), Journal(tmp_path), InlineExecutor())
    paths = []
    for number in range(3):
        state.watch(watch("v2", user_id="u1", at_ms=50 + number, name=f"again{number}"))
        saving.begin(state, OFFSETS, {}, created_at_ms=T0)
        paths.append(saving.poll().path)

    files = [(path / checkpoint_codec.WINDOWS).stat().st_ino for path in paths]
    assert len(set(files)) == 1
    assert restored(tmp_path).windows.get("u1") == state.windows.get("u1")


def test_after_a_failed_checkpoint_the_next_one_shares_nothing(tmp_path, monkeypatch):
    state, saving = lived(), Saving(Checkpoints(tmp_path), Journal(tmp_path), InlineExecutor())
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", _full)
        saving.begin(state, OFFSETS, {}, created_at_ms=T0)
        with pytest.raises(OSError, match="full"):
            saving.poll()
    saving.begin(state, OFFSETS, {}, created_at_ms=T0)
    saving.poll()

    assert restored(tmp_path).windows.get("u3") == state.windows.get("u3")


def test_after_a_checkpoint_that_could_not_begin_the_next_one_shares_nothing(tmp_path, monkeypatch):
    """The disk had no room for the next segment of the journal: u1 was lost with the windows."""
    state, saving = lived(), Saving(Checkpoints(tmp_path), Journal(tmp_path), InlineExecutor())
    saving.begin(state, OFFSETS, {}, created_at_ms=T0)
    saving.poll()
    state.windows.forget_base()
    state.watch(watch("v2", user_id="u1", at_ms=50, name="again"))
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "begin", _full)
        with pytest.raises(OSError, match="full"):
            saving.begin(state, OFFSETS, {}, created_at_ms=T0)
    saving.begin(state, OFFSETS, {}, created_at_ms=T0)
    saving.poll()

    assert restored(tmp_path).windows.get("u1") == state.windows.get("u1")


def test_old_segments_of_the_journal_go_with_their_checkpoints(tmp_path):
    journal = Journal(tmp_path)
    journal.begin(0)
    state, saving = lived(), Saving(Checkpoints(tmp_path), journal, InlineExecutor())
    for _ in range(5):
        journal.append(BatchLearned())
        saving.begin(state, OFFSETS, {}, created_at_ms=T0)
        saving.poll()

    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"{kind}-{n:012d}" for kind in ("ckpt", "journal") for n in (3, 4, 5)]


def test_what_is_not_finite_is_not_saved_and_not_gone_back_to(tmp_path):
    """One NaN would go from checkpoint to checkpoint for ever."""
    state, checkpoints = lived(), Checkpoints(tmp_path)
    saving = Saving(checkpoints, Journal(tmp_path), InlineExecutor())
    saving.begin(state, OFFSETS, {}, created_at_ms=T0)
    saving.poll()
    good = state.learner.state
    state.learner.state = lambda: ({**good()[0], "weight": np.array([np.nan])}, good()[1])
    saving.begin(state, OFFSETS, {}, created_at_ms=T0)
    with pytest.raises(NotFiniteError, match="weight"):
        saving.poll()
    bad = dict(checkpoints.newest().files)
    bad[checkpoint_codec.LEARNER] = checkpoint_codec.safetensors.numpy.save(
        {"weight": np.array([np.nan])}
    )
    checkpoints.save(bad, offsets=OFFSETS, created_at_ms=T0)

    assert checkpoints.newest().number == 2
    assert checkpoints.newest(checkpoint_codec.check_usable).number == 1


def _full(*_args, **_kwargs):
    raise OSError(28, "the disk is full")
