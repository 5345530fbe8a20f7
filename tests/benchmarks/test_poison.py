"""The poison benchmark: what it tells of a guard that sees, and of one that is blind."""

import os

import msgspec
import numpy as np
import pytest

from benchmarks.poison.kinds import KINDS, UNTRAINED, Setting
from benchmarks.poison.rig import TrainerRig
from benchmarks.poison.trial import features_of, share_seen, trial, warm_rig
from benchmarks.poison.verdict import is_right
from contract.wire.events import BundleState
from models.training.config import TowerConfig
from tests.support.builders import T0, upload, watch
from trainer.guard.paired import MOST_LOST
from trainer.state.checkpoint import Checkpoints

pytestmark = pytest.mark.long

pytest.importorskip("torch")

SMALL = TowerConfig(dim=16, hidden_dim=16, content_buckets=1_024, context_buckets=64)
NUM_VIDEOS, NUM_WATCHES, NUM_WARM = 120, 2_600, 700


class SmallLog:
    """A log that is drawn: users who like one of three kinds of video."""

    def __init__(self):
        rng = np.random.default_rng(0)
        kinds = ("cooking", "guitar", "chess")
        self.uploads = [upload(f"v{n}", category=kinds[n % 3]) for n in range(NUM_VIDEOS)]
        self.watches = []
        for number in range(NUM_WATCHES):
            user = int(rng.integers(300))
            video = 3 * int(rng.integers(NUM_VIDEOS // 3)) + user % 3
            at_ms = T0 + 1_000 * number
            event = watch(f"v{video}", user_id=f"u{user}", at_ms=1_000 * number, watch_ms=20_000)
            self.watches.append((at_ms, event))

    def since(self, first):
        return iter(self.watches[first:])

    def day_before(self, _first):
        return iter(self.watches)


LOG = SmallLog()


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def warm(*, is_blind=False):
    return warm_rig(
        LOG, first=0, num_warm=NUM_WARM, seed=0, rate=20.0, is_blind=is_blind, config=SMALL
    )


def seen(rig, kind):
    setting = Setting(np.random.default_rng(0), 0, LOG.day_before(0), 0.1 * features_of(rig))
    return trial(rig, LOG, kind, setting)


@pytest.mark.parametrize("kind", ["half_of_index_missing", "stale_features", UNTRAINED])
def test_a_guard_that_sees_refuses_and_a_blind_one_does_not(directory, kind):
    """The benchmark would measure nothing if a blind guard passed it."""
    result = seen(warm(), kind)
    assert result["seen_s"] is not None, result
    assert result["in_service_after"] == result["in_service_before"]

    (directory / "blind").mkdir()
    os.chdir(directory / "blind")
    assert seen(warm(is_blind=True), kind)["seen_s"] is None


def test_a_blind_guard_fails_the_run():
    unseen = [{"kind": kind, "seen_s": None} for kind in KINDS]
    assert not is_right({"seen_share": share_seen(unseen)})


@pytest.mark.parametrize(
    ("figures", "right"),
    [
        ({"seen_share": 0.95}, True),
        ({"seen_share": 0.94}, False),
        ({"false_alarms": 0}, True),
        ({"seen_share": 1.0, "false_alarms": 2}, False),
        ({"seen_share": 1.0, "former_generation_back_s": {"p50": 1.0, "p99": 5.1}}, False),
        ({"seen_share": 1.0, "false_alarms": 1, "former_generation_back_s": {"p99": 4.9}}, True),
    ],
)
def test_every_target_that_was_measured_is_to_be_reached(figures, right):
    assert is_right(figures) is right


def test_a_generation_that_turns_bad_is_withdrawn_and_the_trainer_goes_back(directory):
    """The former one serves; its checkpoint is the newest; what was learned since is left out."""
    rig = warm()
    bad, former = rig.generations.in_service, rig.generations.in_service - 1
    rig.guard.versus_former.lost = MOST_LOST
    rig.watch.look(rig.trainer._offsets())

    assert rig.generations.in_service == former
    withdrawn = [a for a in rig.announced if a.state is BundleState.WITHDRAWN]
    assert [a.generation for a in withdrawn] == [bad]
    assert "worse than the generation before" in withdrawn[0].reason
    assert rig.trainer.has_gone_back
    [entry] = rig.watch.rollback.quarantine.entries
    newest = Checkpoints(directory / "checkpoints").newest()
    assert entry.first["watch-events"] == newest.offsets["watch-events"]
    assert entry.end["watch-events"] == rig.trainer._offsets()["watch-events"]


def test_the_trainer_goes_back_when_an_operator_does(directory):
    """What was offered while the operator withdrew knows of the trouble, too: it goes as well."""
    rig = warm()
    bad, former = rig.generations.in_service, rig.generations.in_service - 1
    offered = rig.generations.of(bad)
    rig.offer()
    rig.generations.note(
        msgspec.structs.replace(offered, state=BundleState.WITHDRAWN, reason="by an operator")
    )
    rig.watch.look(rig.trainer._offsets())

    assert rig.trainer.has_gone_back
    assert [b.generation for b in rig.generations.not_withdrawn][-1] == former
    [entry] = rig.watch.rollback.quarantine.entries
    assert (entry.generation, entry.reason) == (former, "by an operator")
    assert rig.watch.rollback.generations[-1] == former


def test_the_fast_path_learns_nothing_from_a_trouble_that_goes_on(directory):
    """What serves after going back must stay as it was."""
    rig = warm()
    rig.guard.versus_former.lost = MOST_LOST
    rig.watch.look(rig.trainer._offsets())
    rig.watch.has_gone_back = False

    num_sent = rig.trainer._parts.metrics.counts["vectors"]
    rig.run(LOG.since(rig.next_watch), for_s=10.0)
    rig.offer()
    assert rig.trainer._parts.metrics.counts["vectors"] == num_sent
    assert "it has gone back" in rig.trainer.offering.withheld


def test_a_watch_in_quarantine_moves_the_window_and_teaches_nothing(directory):
    rig = TrainerRig(LOG.uploads, now_ms=T0, seed=0, rate=20.0, config=SMALL)
    offsets = {"watch-events": {0: 0}}
    rig.watch.rollback.quarantine.add(
        reason="bad", now_ms=T0, generation=1, first=offsets, end={"watch-events": {0: 1}}
    )
    for at_ms, event in ((T0, watch("v1", at_ms=1)), (T0, watch("v2", at_ms=2))):
        rig.tick([(at_ms, event)])

    assert rig.state.windows.get("u1").video_ids == ("v1", "v2")
    assert rig.state.counts["quarantined_watches"] == 1
    assert rig.state.progressive.num_examples == 1
