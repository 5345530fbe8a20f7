"""The comparison with other libraries' models: what peers get, and how they are ranked."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.retrieval import contest, environment, report, task
from benchmarks.peers.retrieval.contest import (
    CONTESTANTS,
    RetrievalContest,
    RetrievalContestant,
    RetrievalOutcome,
)
from benchmarks.peers.retrieval.split import NOBODY, TOP, Split, first, ndcg, ndcg_of_lists, windows
from models.history.history import WindowPolicy
from nextwatch.evaluate import ranks
from nextwatch.evaluate.logs import ml1m
from tests.support.trial_logs import write_ml1m

PIN = re.compile(r"^([\w.-]+)==(\S+)$", re.MULTILINE)


@pytest.fixture
def halves(tmp_path):
    """Twenty users with twelve films each; two of them validate."""
    directory = tmp_path / "ml1m"
    directory.mkdir()
    return ml1m.read(write_ml1m(directory), policy=WindowPolicy())


@pytest.fixture
def held(halves, tmp_path):
    """A contest of no time at all."""
    (tmp_path / "answers").mkdir()
    return RetrievalContest(
        halves,
        tmp_path / "ml1m",
        tmp_path / "answers",
        tmp_path / "environments",
        minutes=0.0,
        seed=0,
        say=lambda _: None,
    )


def split(*sequences, held, num_videos=9):
    """A split of these."""
    return Split.of(sequences, held, num_videos)


def test_peers_are_given_everything_but_the_tests(halves, tmp_path):
    """Of twelve films a user keeps one for the test, and two users one more for validation."""
    contest.split_of(halves).write(tmp_path / "split.npz")
    given = Split.read(tmp_path / "split.npz")

    assert len(given.column_K) == 20 * 11 - 2
    assert given.validated.tolist() == [0, 1]
    for user, case in enumerate(halves.tests):
        assert given.known(user).tolist() == list(case.exposed)
        assert case.label not in given.known(user)
        assert case.label not in given.learned(user)


def test_what_is_held_back_is_not_among_what_may_be_learned(halves):
    """The second last film of a user of the validation stands beside the sequence only."""
    given = contest.split_of(halves)

    for user, case in zip(given.validated.tolist(), halves.validation, strict=True):
        assert given.held_U[user] == case.label
        assert case.label not in given.learned(user)
        assert given.full().learned(user)[-1] == case.label


def test_the_split_on_disk_is_plain_arrays(halves, tmp_path):
    """No peer has to unpickle anything."""
    contest.split_of(halves).write(tmp_path / "split.npz")

    with np.load(tmp_path / "split.npz", allow_pickle=False) as arrays:
        assert {arrays[name].dtype.kind for name in arrays} == {"i"}


def test_windows_hold_the_last_watches_of_one_user_only():
    """Films are counted from 1, zeros in front stand for none."""
    # user 0: A B C D   user 1: E F
    given = split([0, 1, 2, 3], [4, 5], held=[NOBODY, NOBODY])

    before_d_and_f = windows(given, np.array([3, 5]), np.array([0, 1]), 2)

    assert before_d_and_f.tolist() == [[2, 3], [0, 5]]


def test_lists_leave_out_what_was_watched_and_end_with_nobody():
    """Of four videos with two watched, two can be shown, the better one first."""
    score_BN = np.array([[0.1, 0.9, 0.3, 0.2]], np.float32)

    (shown,) = first(score_BN, [np.array([1, 3])]).tolist()

    assert shown == [2, 0] + [NOBODY] * (TOP - 2)


def test_validation_is_the_gain_of_the_place_of_the_film_held_back():
    """Second among what may still be shown: 1 / log2(3), whatever was watched scores."""
    given = split([0, 1], [2, 3], held=[4, NOBODY], num_videos=6)
    score_BN = np.array([[9.0, 8.0, 1.0, 3.0, 2.0, 0.0]], np.float32)

    of_lists = ndcg_of_lists(first(score_BN.copy(), [np.array([0, 1])]), given)

    assert ndcg(score_BN, given) == pytest.approx(1 / np.log2(3))
    assert of_lists == pytest.approx(1 / np.log2(3))


def test_a_list_is_ranked_as_the_scores_that_it_was_made_from(halves):
    """Up to the hundredth place it makes no difference that a peer hands over its list only."""
    rng = np.random.default_rng(1)
    score_BN = rng.random((20, 40)).astype(np.float32)
    labels = [case.label for case in halves.tests]
    exposed = [case.exposed for case in halves.tests]
    lists_UT = first(score_BN.copy(), [np.array(columns) for columns in exposed])

    figures = contest.measured(lists_UT, halves)
    expected = ranks.means(ranks.gains(ranks.rank(score_BN, labels, exposed)))

    names = ("recall_at_10", "ndcg_at_10", "recall_at_100")
    assert {name: figures[name] for name in names} == pytest.approx(
        {name: expected[name] for name in names}
    )


def test_the_third_place_is_worth_what_the_formula_says(halves):
    """Everybody's film is third: NDCG@10 is 1 / log2(4), and all are hits."""
    lists_UT = np.full((20, TOP), NOBODY)
    for row, case in enumerate(halves.tests):
        others = [column for column in range(40) if column not in (*case.exposed, case.label)]
        lists_UT[row, :3] = [*others[:2], case.label]

    figures = contest.measured(lists_UT, halves)

    assert (figures["ndcg_at_10"], figures["recall_at_10"]) == (pytest.approx(0.5), 1.0)


def test_what_a_user_has_watched_gives_no_place_to_a_list(halves):
    """A peer that forgets to leave out what was watched gains and loses nothing by it."""
    lists_UT = np.full((20, TOP), NOBODY)
    for row, case in enumerate(halves.tests):
        lists_UT[row, :2] = [case.exposed[0], case.label]

    assert contest.measured(lists_UT, halves)["ndcg_at_10"] == 1.0


@pytest.mark.parametrize(
    ("shown", "error"), [([3, 3], "twice"), ([40, 1], "not among"), ([-2, 1], "not among")]
)
def test_a_list_that_is_none_is_refused(shown, error):
    """A video twice, or a column beyond the catalogue, is an error of the peer's program."""
    lists_BT = np.full((1, TOP), NOBODY)
    lists_BT[0, :2] = shown

    with pytest.raises(ValueError, match=error):
        contest.scores(lists_BT, 40)


def test_a_list_per_user_is_wanted(halves):
    """Users without a list are not left out of the mean."""
    with pytest.raises(ValueError, match="20 lists are wanted, got 19"):
        contest.measured(np.full((19, TOP), NOBODY), halves)


def test_a_peer_that_does_not_install_is_skipped_with_the_reason(held, monkeypatch):
    """What pip said last stands in the outcome, and nothing has failed."""

    def refuse(_python, _requirements):
        raise environment.UnavailableError("pip: ERROR: No matching distribution")

    monkeypatch.setattr(environment, "install", refuse)
    monkeypatch.setattr(environment.venv, "create", lambda *_, **__: None)

    outcome = held.run(next(one for one in CONTESTANTS if one.environment))

    assert (outcome.reason, outcome.is_failed) == ("pip: ERROR: No matching distribution", False)


def test_a_peer_that_breaks_down_has_failed_with_the_last_it_said(held):
    """The others go on; the exit code will tell."""
    broken = RetrievalContestant("broken", "Broken", "benchmarks.peers.retrieval.nowhere")

    (outcome,) = held.hold((broken,))

    assert "No module named" in outcome.reason
    assert outcome.is_failed
    assert outcome.figures == {}


def test_an_answer_is_read_back_as_it_was_written(tmp_path):
    """Lists as arrays, all else as JSON, with the versions of what took part."""
    lists_UT = np.arange(TOP)[None]
    answer = task.TaskAnswer(lists_UT, 1.25, {"width": 8}, 0.5, ("numpy",))

    task.write(answer, tmp_path)

    told = json.loads((tmp_path / task.TOLD).read_text())
    with np.load(tmp_path / task.LISTS, allow_pickle=False) as arrays:
        assert arrays["lists_UT"].tolist() == lists_UT.tolist()
    assert told["versions"] == {"numpy": np.__version__}
    assert (told["settings"], told["validation"]) == ({"width": 8}, 0.5)


def outcomes():
    """Two with figures, one skipped, one failed."""
    names = ("recall_at_10", "ndcg_at_10", "recall_at_100", "coverage_at_100")
    told = {"learn_s": 60.0, "settings": {"width": 8}, "validation": None, "versions": {"x": "1"}}

    def measured(value):
        return {**dict.fromkeys(names, value), "intervals": {"recall_at_10": [0.1, 0.2]}}

    one, two, three, four = CONTESTANTS[:4]
    return [
        RetrievalOutcome(one, measured(0.1), told, 70.0),
        RetrievalOutcome(two, measured(0.2), told, 70.0),
        RetrievalOutcome(three, reason="pip: no"),
        RetrievalOutcome(four, reason="boom", is_failed=True),
    ]


def test_the_table_has_the_best_first_and_ends_with_the_reasons():
    """Whoever has no figures has a reason."""
    lines = report.rows(outcomes())

    assert [line[1] for line in lines] == [".2000", ".1000", "skipped: pip: no", "failed: boom"]
    assert {len(line) for line in lines} == {len(report.COLUMNS)}


def test_the_page_and_the_json_say_how_it_was_done():
    """Versions, settings, the budget, and who is missing."""
    facts = {"minutes": 10.0, "seed": 0, "n": 20, "num_videos": 40, "load_1m": 0.1, "cpus": 2}

    page = report.page(outcomes(), facts)
    told = json.loads(report.summary(outcomes(), facts))

    assert "10 minutes of processor time for each" in page.replace("\n", " ")
    assert "(x 1): width 8." in page
    assert (told["skipped"], told["failed"]) == (
        {"torch_rechub_youtube_dnn": "pip: no"},
        {"rectools_sasrec": "boom"},
    )
    assert told["models"]["sasrec"]["ndcg_at_10"] == 0.2


@pytest.mark.parametrize("name", sorted({one.environment for one in CONTESTANTS} - {""}))
def test_environments_have_pinned_versions_and_the_projects_own_torch(name):
    """Learning is timed, so all learn with the same torch."""
    folder = Path(environment.__file__).parent
    constraints = folder.parents[2] / "constraints.txt"
    lines = (folder / f"{name}-requirements.txt").read_text().splitlines()
    apart = dict(PIN.findall("\n".join(lines)))

    assert len(apart) == sum(not line.startswith("#") for line in lines)
    assert apart["torch"] == dict(PIN.findall(constraints.read_text()))["torch"]


def test_those_without_an_environment_run_in_the_projects_own(held, monkeypatch):
    """The interpreter of the contest is theirs."""
    asked = []
    monkeypatch.setattr(
        RetrievalContest,
        "_process",
        lambda _, one, python, __: asked.append((one.name, python)) or "no",
    )
    ours = tuple(one for one in CONTESTANTS if not one.environment)

    held.hold(ours)

    assert asked == [(one.name, sys.executable) for one in ours]
