"""A study goes through a checkpoint and comes out the same."""

from dataclasses import replace

import pytest

from contract.errors import ContractError
from tests.builders import search, upload, watch
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
    return study


def go_on(study):
    """Live on: the batch that waits, a repeated event, new ones, what is touched."""
    study.watch(watch("v0", user_id="u1", at_ms=22))
    study.watch(watch("v9", user_id="u2", at_ms=23))
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


def test_a_checkpoint_of_other_code_is_refused():
    files = memory.to_files(lived(study_of()))
    del files[memory.POPULARITY]

    with pytest.raises(ContractError, match="other code or of another configuration"):
        memory.restore(study_of(), files)


def test_a_checkpoint_of_another_configuration_is_refused():
    files = memory.to_files(lived(study_of(learner=Learner(SMALL, seed=0))))

    with pytest.raises(ContractError, match="other code or of another configuration"):
        memory.restore(study_of(learner=Learner(replace(SMALL, dim=32), seed=0)), files)


def test_counters_of_another_catalogue_are_refused():
    """Rows would mean other videos."""
    files = memory.to_files(lived(study_of()))
    other = memory.to_files(study_of(upload("x")))

    with pytest.raises(ContractError, match="catalogue"):
        memory.restore(study_of(), {**files, memory.LEARNER_META: other[memory.LEARNER_META]})
