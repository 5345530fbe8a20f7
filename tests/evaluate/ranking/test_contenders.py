"""Every contender keeps the rules of the game: a conformance suite, and what each is about."""

import numpy as np
import pytest

from nextwatch.evaluate.ranking import metrics
from nextwatch.evaluate.ranking.contender import Exposures, Outcomes
from nextwatch.evaluate.ranking.contenders import gradient_boosting
from nextwatch.evaluate.ranking.contenders.control import Control
from nextwatch.evaluate.ranking.counters import CLICKED, DecayedCounter
from nextwatch.evaluate.ranking.entrants import BASELINES, contenders, everybody
from tests.support.rank_logs import rank_log
from tests.support.trial_logs import T0

HOUR_MS = 3_600_000
NAMES = everybody()


def exposures(*rows):
    """Return exposures of rows (user, video, hours from the beginning of the log)."""
    user, video, hours = zip(*rows, strict=True)
    return Exposures(
        np.array(user, np.int64),
        np.array(video, np.int64),
        T0 + (np.array(hours) * HOUR_MS).astype(np.int64),
        np.ones(len(rows), np.int64),
        np.full(len(rows), 30_000, np.int64),
    )


def outcomes(text):
    """Return outcomes of as many exposures as *text* has letters: ``+`` is a positive."""
    label = np.array([letter == "+" for letter in text])
    return Outcomes(label, label, label, np.where(label, 30.0, 1.0))


def made(name, seed=0):
    if name == "lightgbm":
        pytest.importorskip("lightgbm", reason="the evaluate extra is not installed")
    if name not in BASELINES:
        pytest.importorskip("torch", reason="the train extra is not installed")
    contender = contenders()[name](seed)
    contender.prepare(rank_log().training("is_click"))
    return contender


def told(contender, log, rows=slice(0, 400)):
    """Let *contender* observe *rows* of *log*, in batches of twenty."""
    for start in range(rows.start, rows.stop, 20):
        part = slice(start, start + 20)
        contender.observe(log.exposures(part), log.outcomes(part, "is_click"))


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_finite_before_and_after_learning(name):
    """Of the first exposure of all, and of one in the middle of the log."""
    log, contender = rank_log(), made(name)

    for rows in (slice(0, 5), slice(400, 405)):
        for is_own_still in (False, True):
            scores = contender.score(log.exposures(rows), is_own_still=is_own_still)
            assert np.isfinite(scores.p_B).all()
            assert (scores.expected_watch_s_B >= 0).all()
        told(contender, log)


@pytest.mark.parametrize("name", NAMES)
def test_scoring_changes_nothing(name):
    """However often an exposure is scored, in either reading."""
    log, contender = rank_log(), made(name)
    told(contender, log)
    batch = log.exposures(slice(400, 420))

    first = contender.score(batch, is_own_still=False)
    contender.score(batch, is_own_still=True)
    again = contender.score(batch, is_own_still=False)

    assert again.p_B == pytest.approx(first.p_B, abs=0)
    assert again.expected_watch_s_B == pytest.approx(first.expected_watch_s_B, abs=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_copy_learns_nothing_more(name):
    """Whatever the contender that it was copied from goes on to observe."""
    log, contender = rank_log(), made(name)
    told(contender, log)
    batch = log.exposures(slice(400, 420))
    frozen = contender.frozen()
    before = frozen.score(batch, is_own_still=True)

    told(contender, log, slice(400, 600))

    assert frozen.score(batch, is_own_still=True).p_B == pytest.approx(before.p_B, abs=0)


@pytest.mark.parametrize("name", NAMES)
def test_own_state_still_does_not_see_what_the_user_does_next(name):
    """Two users alike until the hold: then one clicks on everything, the other on nothing.

    Both did it with the same videos, so nothing but their own feedback tells them apart.
    """
    log, contender = rank_log(), made(name)
    told(contender, log)
    told_apart = exposures((0, 3, 20), (1, 3, 20))
    contender.hold_own_state()
    before = contender.score(told_apart, is_own_still=True).p_B
    for hour in range(10):
        batch = exposures(*[(user, hour, 10 + hour) for user in (0, 1)])
        contender.observe(batch, outcomes("+-"))

    live = contender.score(told_apart, is_own_still=False).p_B
    still = contender.score(told_apart, is_own_still=True).p_B

    assert np.sign(still[0] - still[1]) == np.sign(before[0] - before[1])
    assert logit(still[0]) - logit(still[1]) == pytest.approx(
        logit(before[0]) - logit(before[1]), abs=0.3
    )
    if name in ("control", "factorisation_machine"):
        assert abs(live[0] - live[1]) > 2 * abs(still[0] - still[1])


def logit(p):
    return np.log(p / (1 - p))


@pytest.mark.parametrize("name", sorted({*BASELINES} - {"control"}))
def test_every_baseline_but_the_control_finds_out_which_videos_are_watched(name):
    """The small log has a video watched the more often the higher its number."""
    log, contender = rank_log(), made(name)
    told(contender, log)

    rows = slice(400, 600)
    scores = contender.score(log.exposures(rows), is_own_still=True)

    label = log.outcomes(rows, "is_click").is_positive_B
    assert metrics.auc(label, scores.p_B) > 0.6
    watched = log.outcomes(rows, "is_click").watch_s_B
    assert metrics.xauc(watched, scores.expected_watch_s_B) > 0.6


@pytest.mark.parametrize("name", ["factorisation_machine", "lightgbm", "expected_watch_time"])
def test_the_same_seed_gives_the_same_scores(name):
    log = rank_log()
    one, other = made(name, seed=3), made(name, seed=3)
    for contender in (one, other):
        told(contender, log)

    batch = log.exposures(slice(400, 420))
    assert one.score(batch, is_own_still=True).p_B == pytest.approx(
        other.score(batch, is_own_still=True).p_B, abs=0
    )


def test_the_control_is_one_minus_the_users_own_decayed_rate():
    """One click and one not, two half-lives ago: the prior weighs as much as half an exposure."""
    control = Control(half_life_h=1.0)
    control.prepare(rank_log().training("is_click"))
    control.observe(exposures((0, 5, 0), (0, 6, 0)), outcomes("+-"))

    scores = control.score(exposures((0, 7, 2)), is_own_still=False)

    assert scores.p_B[0] == pytest.approx(1 - (0.25 + 0.44) / (0.5 + 1.0))


def test_the_control_gives_all_exposures_of_a_user_one_score_with_own_state_still():
    """So its GAUC is one half, whatever the labels."""
    log, control = rank_log(), made("control")
    told(control, log)
    control.hold_own_state()
    told(control, log, slice(400, 500))

    scores = control.score(log.exposures(slice(500, 600)), is_own_still=True)

    user = log.user[500:600]
    assert all(len(set(scores.p_B[user == one].tolist())) == 1 for one in set(user.tolist()))


def test_a_decayed_count_halves_every_half_life():
    counter = DecayedCounter(2, half_life_h=1.0)
    time_ms = np.array([T0], np.int64)
    counter.add(np.array([1]), time_ms, np.array([[1.0, 0.0, 12.0]]))

    later = time_ms + 3 * HOUR_MS
    assert counter.count(np.array([1]), later) == pytest.approx([1 / 8])
    rate_BY = counter.rates(np.array([1]), later, np.array([0.0, 0.0, 0.0]), strength=1.0)
    assert rate_BY[0, CLICKED] == pytest.approx((1 / 8) / (1 / 8 + 1))


def test_a_missing_lightgbm_is_named(monkeypatch):
    """Nobody has to find out from a traceback what to install."""
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)

    with pytest.raises(gradient_boosting.DatasetError, match=r"nextwatch\[evaluate\]"):
        gradient_boosting.GradientBoosting()
