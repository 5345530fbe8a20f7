"""A study goes through a checkpoint and comes out the same."""

from dataclasses import replace

import msgspec
import pytest
from structlog.testing import capture_logs

from contract.clock import ManualClock
from contract.errors import ContractError
from models.history import DAY_MS
from tests.builders import T0, search, upload, watch
from tests.models.bundles import SMALL
from tests.trainer.doubles import RecordingLearner, study_of
from trainer import memory
from trainer.learner import Learner

VIDEOS = [upload(f"v{n}", tags=(f"tag{n}",)) for n in range(12)]


def lived(study):
    """Give *study* a past: batches learned, one that waits, a generation, a takedown."""
    for video in VIDEOS:
        study.upload(video)
    for n in range(10):
        study.watch(watch(f"v{n}", user_id=f"u{n % 3}", at_ms=n))
        if n in (3, 6):
            study.learn()
    study.freeze(1)
    study.search(search("soup", user_id="u1", at_ms=20))
    study.take_down("v11")
    study.watch(watch("v10", user_id="u1", at_ms=21))
    study.learn()
    study.watch(watch("v0", user_id="u1", at_ms=22))
    study.watch(watch("unheard-of", user_id="u1", at_ms=23))
    return study


def go_on(study):
    """Live on: the batch that waits, a repeated event, new ones, what is touched."""
    study.watch(watch("v0", user_id="u1", at_ms=22))
    study.watch(watch("v9", user_id="u2", at_ms=23))
    study.upload(upload("unheard-of"))
    study.learn()
    study.freeze(2)
    return study


@pytest.mark.parametrize("learner", [RecordingLearner, lambda: Learner(SMALL, seed=0)])
def test_a_restored_study_goes_on_as_if_nothing_had_happened(learner):
    """Byte for byte: every file of the next checkpoint is the same."""
    study = lived(study_of(learner=learner()))
    restored = study_of(learner=learner())
    memory.restore(restored, memory.to_files(study))

    undisturbed, resumed = (memory.to_files(go_on(one)) for one in (study, restored))

    assert undisturbed.keys() == resumed.keys()
    assert [name for name in undisturbed if undisturbed[name] != resumed[name]] == []


def test_a_checkpoint_of_0_2_is_read():
    """It knows neither who has counted today nor what waits for its upload."""
    files = memory.to_files(lived(study_of()))
    del files[memory.VIEWERS]
    rest = msgspec.msgpack.decode(files[memory.REST])
    del rest["waiting"]
    rest["pending"]["viewings"] = [one[:4] for one in rest["pending"]["viewings"]]
    restored = study_of()
    memory.restore(restored, files | {memory.REST: msgspec.msgpack.encode(rest)})

    assert len(restored.pending.viewings) == 1
    assert len(restored.waiting) == 0


def test_a_checkpoint_whose_clocks_stand_in_the_future_is_turned_back():
    """An event of next year was counted before such were refused; the restart cures it."""
    ahead = study_of(upload("v1"), learner=learner_with_signals())
    ahead.watch(watch("v1", at_ms=400 * DAY_MS))
    ahead.learn()
    restored = study_of(learner=learner_with_signals(), clock=ManualClock(T0))
    with capture_logs() as told:
        memory.restore(restored, memory.to_files(ahead))
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
    files = memory.to_files(lived(study_of()))
    del files[memory.POPULARITY]

    with pytest.raises(ContractError, match="other code or of another configuration"):
        memory.restore(study_of(), files)


def test_a_checkpoint_of_another_configuration_is_refused():
    files = memory.to_files(lived(study_of(learner=Learner(SMALL, seed=0))))

    with pytest.raises(ContractError, match="other code or of another configuration"):
        memory.restore(study_of(learner=Learner(replace(SMALL, dim=32), seed=0)), files)


def test_counters_of_other_videos_than_the_models_are_rejected():
    """Rows would mean other videos."""
    files = memory.to_files(lived(study_of()))
    other = memory.to_files(study_of(upload("x")))

    with pytest.raises(ContractError, match="videos of its model"):
        memory.restore(study_of(), {**files, memory.LEARNER: other[memory.LEARNER]})
