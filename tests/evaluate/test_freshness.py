"""Freshness in a trial: every case is scored with weights, counters and windows of many ages."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from typer.testing import CliRunner  # noqa: E402

from models.history.history import HOUR_MS, WindowPolicy  # noqa: E402
from models.training.config import TowerConfig  # noqa: E402
from nextwatch.commands.cli import app  # noqa: E402
from nextwatch.evaluate.freshness import report, run  # noqa: E402
from nextwatch.evaluate.freshness.entrant import (  # noqa: E402
    ALL_AGES,
    Ages,
    FreshnessEntrant,
    LateWindows,
)
from nextwatch.evaluate.learned import Learned  # noqa: E402
from nextwatch.evaluate.logs.trial import TrialLog  # noqa: E402
from nextwatch.evaluate.people import People  # noqa: E402
from nextwatch.evaluate.prequential import LIVE, Entrant, replay  # noqa: E402
from tests.support.trial_logs import drawn_rows, trial_log, write_kuairand  # noqa: E402
from trainer.learn.learner import Learner  # noqa: E402

SMALL = TowerConfig(
    dim=8, hidden_dim=8, content_buckets=64, context_buckets=16, num_replayed=32, replay_size=512
)


@pytest.fixture(autouse=True)
def _one_thread():
    """Several threads on tiny tensors wait for each other for most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn_log(*, num_rows=240, every_ms=600_000, tested_from_ms=0) -> TrialLog:
    """Return a log of 40 hours drawn by lot."""
    rows = drawn_rows(0, num_rows=num_rows, every_ms=every_ms)
    return trial_log(rows, num_videos=30, tested_from_ms=tested_from_ms)


def learner(**changed):
    """Return a small learner that has learned nothing."""
    return Learner(TowerConfig(**{**_fields(SMALL), **changed}), seed=0)


def _fields(config):
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def entered(log, **changed):
    """Return an entrant that went through *log*, with what each age scored each case."""
    scored = {ages: [] for ages in ALL_AGES}

    class Noting(FreshnessEntrant):
        def _scores(self, cases):
            for ages, score_BN in super()._scores(cases):
                scored[ages].append(score_BN.copy())
                yield ages, score_BN

    entrant = Noting("small", Learned(learner(**changed)))
    replay(log, [entrant], policy=WindowPolicy())
    return entrant, {ages: np.concatenate(each) for ages, each in scored.items()}


def test_the_freshest_scores_are_those_of_the_learner_but_for_a_factor():
    """Else the table would be of another model than the one that learns."""
    log, told, asked = drawn_log(), [], []

    class Compared(FreshnessEntrant):
        def _scores(self, cases):
            examples = [self.contender.example(case, case.label) for case in cases]
            asked.append(self.contender.learner.similarity(self.contender.learner.encode(examples)))
            for ages, score_BN in super()._scores(cases):
                if ages == run.FRESHEST:
                    told.append(score_BN.copy())
                yield ages, score_BN

    replay(log, [Compared("small", Learned(learner()))], policy=WindowPolicy())

    told_QN, asked_QN = np.concatenate(told), np.concatenate(asked)
    assert len(told_QN) > 50
    assert np.allclose(told_QN / 2.0, asked_QN, atol=1e-5)  # simple LSH divides by the largest norm


def test_the_freshest_ranks_are_those_of_the_protocol_of_retrieval():
    """One entrant of either kind in one replay, with the same batches."""
    log = drawn_log(num_rows=60, tested_from_ms=50 * 600_000)
    fresh = FreshnessEntrant("small", Learned(learner()))
    usual = Entrant("small", Learned(learner(), generation_ms=1), pace=fresh.pace)

    replay(log, [fresh, usual], policy=WindowPolicy())

    told = [one.num_better_Q.tolist() for one in fresh.ranks[run.FRESHEST]]
    assert told == [one.num_better_Q.tolist() for one in usual.ranks[LIVE]]


def test_weights_that_are_never_synced_and_counters_of_their_moment_stand_still():
    """A user whose window does not move is scored alike, whatever was learned."""
    _, scored = entered(drawn_log())
    frozen_QN = scored[Ages("never", "synced", "daily")]
    live_QN = scored[Ages("2 s", "live", "daily")]

    assert len(np.unique(frozen_QN.round(4), axis=0)) < len(frozen_QN)
    assert len(np.unique(live_QN.round(4), axis=0)) > len(np.unique(frozen_QN.round(4), axis=0))


def test_counters_move_while_weights_stand_still():
    """Live counters are of the moment of the case, whatever the weights are."""
    _, scored = entered(drawn_log())

    live, synced = (scored[Ages("never", one, "per event")] for one in ("live", "synced"))
    assert np.array_equal(live[0], synced[0])
    assert not np.allclose(live[-1], synced[-1])


def test_a_model_without_live_counters_is_the_same_with_and_without():
    """It has nothing that could be live."""
    _, scored = entered(drawn_log(), has_live_signals=False)

    live, synced = (scored[Ages("1 h", one, "hourly")] for one in ("live", "synced"))
    assert np.array_equal(live, synced)


def test_weights_are_synced_with_the_first_case_after_each_multiple_of_the_interval():
    """40 hours with a row every ten minutes, and one sync of all before the first test."""
    entrant, _ = entered(drawn_log())

    assert entrant.num_syncs["never"] == 1
    assert entrant.num_syncs["5 h"] in (9, 10)
    assert 20 < entrant.num_syncs["1 h"] <= 42
    assert entrant.num_syncs["30 min"] > entrant.num_syncs["1 h"]
    assert entrant.num_syncs["2 s"] == entrant.num_syncs["1 min"] > 60


def test_a_late_window_is_that_of_the_last_full_hour():
    """However often its user watches within it."""
    # minute   0   20   40 | 60   80
    # window   0    1    2 |  3    4      what the user has been shown
    # hourly   0    0    0 |  3    3
    rows = [("u0", column, column * 20 * 60_000, True) for column in range(5)]
    log = trial_log(rows, num_videos=5)
    people = People(log, WindowPolicy())
    exposures = [people.get_or_add(row)[0] for row in range(len(log))]
    start = int(log.time_ms[0])
    shifted = [one._replace(event_time_ms=one.event_time_ms - start) for one in exposures]
    hourly, at_once = LateWindows(HOUR_MS), LateWindows(0)

    assert [len(hourly.window(one).video_ids) for one in shifted] == [0, 0, 0, 3, 3]
    assert [len(at_once.window(one).video_ids) for one in shifted] == [0, 1, 2, 3, 4]


@pytest.fixture(scope="module")
def kuairand(tmp_path_factory):
    """The folder of a small KuaiRand."""
    pytest.importorskip("pyarrow", reason="the evaluate extra is not installed")
    return write_kuairand(tmp_path_factory.mktemp("kuairand"))


def command(*arguments):
    """Return what the command ended with."""
    return CliRunner().invoke(app, ["evaluate", "freshness", *map(str, arguments)])


def test_the_command_tells_every_age_and_what_is_lost(kuairand, tmp_path):
    """As JSON in the last line, and as a page with a picture."""
    pytest.importorskip("matplotlib", reason="the evaluate extra is not installed")
    arguments = ("--data", f"kuairand:{kuairand}", "--set", "dim=8", "--set", "hidden_dim=8")

    found = command(*arguments, "--report", tmp_path, "--json")

    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout.splitlines()[-1])
    assert {Ages(row["sync"], row["counters"], row["user_vectors"]) for row in told["rows"]} == set(
        ALL_AGES
    )
    freshest = told["rows"][0]
    assert freshest["lost"]["recall_at_100"] == 0
    assert freshest["intervals"]["recall_at_100"][0] <= freshest["recall_at_100"]
    page = (tmp_path / "freshness.md").read_text()
    assert page.count("\n| ") == 1 + 1 + 12
    assert (tmp_path / "freshness.png").stat().st_size > 10_000
    assert report.table(told) in page or "lost" in page


def test_a_model_with_a_tree_is_rejected_before_anything_is_read():
    """It is not scored by inner products with all videos."""
    found = command("--data", "kuairand:nowhere", "--model", "tdm")

    assert found.exit_code != 0
    assert "unknown model 'tdm'; known: dssm" in str(found.output) + str(found.exception)
