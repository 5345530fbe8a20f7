"""The baselines against their formulas, worked by hand."""

import math

import numpy as np
import pytest

from models.history.history import EMPTY, HOUR_MS
from nextwatch.evaluate.baselines.cooccurrence import DirectedCooccurrence
from nextwatch.evaluate.baselines.popularity import PopularityBaseline
from nextwatch.evaluate.contender import Case, Exposure, TrainingData
from tests.support.trial_logs import T0, history, uploads

pytest.importorskip("scipy", reason="the evaluate extra is not installed")

from nextwatch.evaluate.baselines.affinity import (
    REGULARIZATION,
    Affinity,
    ItemToItem,
    cosine,
    ease,
)


def case(completed=(), exposed=()):
    return Case("a", EMPTY, T0, 0, tuple(completed), tuple(exposed))


def exposure(column, *, at_ms=0, is_completed=True):
    return Exposure("a", EMPTY, T0 + at_ms, column, 1_000, is_completed, is_first=True)


def prepared(contender, histories=(), num_videos=4):
    contender.prepare(TrainingData(uploads(num_videos), histories))
    return contender


def test_a_count_halves_every_half_life():
    """Two watches an hour ago weigh as much as one now."""
    popularity = prepared(PopularityBaseline(1.0))

    popularity.observe([exposure(0), exposure(0), exposure(1, at_ms=HOUR_MS)])

    (score_N,) = popularity.score([case()])
    assert score_N[0] == pytest.approx(score_N[1])


def test_counts_survive_a_long_time():
    """After 200 half-lives, and the scaling down between, the order still holds."""
    popularity = prepared(PopularityBaseline(1.0))
    for hours in range(0, 200, 10):
        popularity.observe([exposure(2, at_ms=hours * HOUR_MS)])
    popularity.observe([exposure(1, at_ms=200 * HOUR_MS), exposure(1, at_ms=200 * HOUR_MS)])

    weights_N = popularity.weights_N
    assert weights_N[1] == 1.0
    assert weights_N[2] == pytest.approx(2.0**-10 / (1 - 2.0**-10) / 2, rel=1e-4)


def test_only_completed_watches_are_popular():
    """What was left early does not count."""
    popularity = prepared(PopularityBaseline(24.0))

    popularity.observe([exposure(1, is_completed=False), exposure(2)])

    assert popularity.weights_N.tolist() == [0.0, 0.0, 1.0, 0.0]


def test_popularity_without_a_half_life_is_that_of_the_histories():
    """And stands still."""
    popularity = prepared(PopularityBaseline(None), [history("a", [1, 1, 2]), history("b", [1])])

    popularity.observe([exposure(3), exposure(3)])

    assert popularity.weights_N.tolist() == [0.0, 1.0, pytest.approx(1 / 3), 0.0]


def test_a_frozen_copy_has_counts_of_its_own():
    """The original goes on."""
    popularity = prepared(PopularityBaseline(24.0))
    popularity.observe([exposure(0)])
    frozen = popularity.frozen()

    popularity.observe([exposure(1), exposure(1)])

    assert frozen.weights_N.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert popularity.weights_N[1] == 1.0


def test_cosine_by_hand():
    """v0 was watched by two, v1 by three, by both of these two: 2 / sqrt(2 * 3)."""
    told = [history("a", [0, 1]), history("b", [1, 0, 1]), history("c", [1])]
    contender = prepared(ItemToItem(Affinity(cosine)), told, num_videos=3)

    (score_N,) = contender.score([case([0])])

    assert score_N.tolist() == [0.0, pytest.approx(2 / math.sqrt(6)), 0.0]


def test_a_score_is_the_sum_over_different_videos():
    """A video that was watched twice votes once."""
    told = [history("a", [0, 1, 2]), history("b", [0, 2])]
    contender = prepared(ItemToItem(Affinity(cosine)), told)

    once, twice = contender.score([case([0, 2]), case([0, 2, 0])])

    assert once.tolist() == twice.tolist()


def test_ease_is_the_closed_form():
    """B = I - P / diag(P), with P = (X'X + lambda I)^-1 and a zero diagonal."""
    users_UN = (np.random.default_rng(0).random((40, 9)) < 0.4).astype(np.float32)
    gram_NN = (users_UN.T @ users_UN).astype(np.float64)
    inverse_NN = np.linalg.inv(gram_NN + REGULARIZATION * np.eye(9))
    expected_NN = np.eye(9) - inverse_NN / np.diag(inverse_NN)
    np.fill_diagonal(expected_NN, 0.0)

    assert ease(users_UN.T @ users_UN) == pytest.approx(expected_NN, abs=1e-6)


def test_popularity_multiplies_the_affinity():
    """Both neighbours of v0 are alike to it; v2 was watched twice as often of late."""
    told = [history("a", [0, 1]), history("b", [0, 2])]
    contender = prepared(ItemToItem(Affinity(cosine), half_life_h=24.0), told)
    contender.begin_test()
    contender.observe([exposure(1), exposure(2), exposure(2), exposure(3)])

    (score_N,) = contender.score([case([0])])

    assert score_N.tolist() == [
        0.0,
        pytest.approx(0.5 / math.sqrt(2)),
        pytest.approx(1 / math.sqrt(2)),
        0.0,
    ]


def test_a_negative_affinity_does_not_favour_unpopular_videos():
    """Multiplied as it is, the least popular of what is ruled out would come first."""

    def disliked(together_NN):
        return -np.ones_like(together_NN)

    contender = prepared(ItemToItem(Affinity(disliked), half_life_h=24.0), [history("a", [0])])
    contender.observe([exposure(1)])

    assert contender.score([case([0])])[0].tolist() == [0.0, 0.0, 0.0, 0.0]


def test_an_affinity_is_made_of_histories_and_log_when_the_test_begins():
    """What follows changes nothing in it."""
    contender = prepared(ItemToItem(Affinity(cosine)))
    contender.observe([exposure(0), exposure(1)])
    (before_N,) = contender.score([case([0])])

    contender.observe([exposure(0), exposure(2)])

    assert before_N.tolist() == [0.0, pytest.approx(1.0), 0.0, 0.0]
    assert contender.score([case([0])])[0].tolist() == before_N.tolist()


def test_an_affinity_of_exposures_looks_at_all_that_was_shown():
    """Completed or not, in learning as in scoring."""
    told = [history("a", [0, 1], completed=[0])]
    contender = prepared(ItemToItem(Affinity(cosine, is_of_completed=False)), told)

    (score_N,) = contender.score([case([], exposed=[1])])

    assert score_N.tolist() == [pytest.approx(1.0), 0.0, 0.0, 0.0]


def test_cooccurrence_is_directed_and_the_nearer_counts_more():
    """After v0: v1 at distance 1 and v2 at distance 2, so 1 and 1/2, in shares of their sum."""
    contender = prepared(DirectedCooccurrence(), [history("a", [0, 1, 2])], num_videos=3)

    after_0, after_2 = contender.score([case([0]), case([2])])

    assert after_0.tolist() == [0.0, pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert after_2.tolist() == [0.0, 0.0, 0.0]


def test_the_newest_watch_votes_the_most():
    """v2 watched last votes 1 for v3, v0 before it half for v1."""
    told = [history("a", [0, 1]), history("b", [2, 3])]
    contender = prepared(DirectedCooccurrence(), told)

    (score_N,) = contender.score([case([0, 2])])

    assert score_N.tolist() == [0.0, pytest.approx(0.5), 0.0, pytest.approx(1.0)]


def test_factors_are_learned_of_histories_and_log_when_the_test_begins():
    """What follows changes nothing in them."""
    pytest.importorskip("implicit", reason="the evaluate extra is not installed")
    from nextwatch.evaluate.baselines import factors  # noqa: PLC0415

    contender = prepared(factors.ImplicitFactors(), [history("b", [1, 2])])
    contender.observe([exposure(0), exposure(3)])
    (before_N,) = contender.score([case([0])])

    contender.observe([exposure(0), exposure(2)])

    assert before_N[3] > before_N[2]
    assert contender.score([case([0])])[0].tolist() == before_N.tolist()


def test_a_user_is_folded_into_the_factors_by_least_squares():
    """X = (Y'Y + (c - 1) sum y y' + r I)^-1 c sum y, over what the user completed."""
    pytest.importorskip("implicit", reason="the evaluate extra is not installed")
    from nextwatch.evaluate.baselines import factors  # noqa: PLC0415

    rng = np.random.default_rng(0)
    told = [history(f"u{n}", sorted(set(rng.integers(30, size=8).tolist()))) for n in range(50)]
    contender = prepared(factors.ImplicitFactors(), told, num_videos=30)
    contender.begin_test()
    y_NK = contender._items_NK.astype(np.float64)
    weight_N, wanted_N = np.ones(30), np.zeros(30)
    weight_N[[3, 7]], wanted_N[[3, 7]] = factors.CONFIDENCE, 1.0
    left_KK = y_NK.T @ (weight_N[:, None] * y_NK) + factors.REGULARIZATION * np.eye(len(y_NK[0]))
    user_K = np.linalg.solve(left_KK, y_NK.T @ (weight_N * wanted_N))

    (score_N,) = contender.score([case([3, 7, 3])])

    assert score_N == pytest.approx(y_NK @ user_K, abs=1e-4)


@pytest.mark.parametrize("completed", [(), (3,)])
def test_nobody_fails_on_a_user_of_whom_little_is_known(completed):
    """An empty history scores, and so does one of a video that nobody else has watched."""
    told = [history("a", [0, 1]), history("b", [1, 2])]
    for contender in (
        PopularityBaseline(1.0),
        ItemToItem(Affinity(ease)),
        ItemToItem(Affinity(cosine), half_life_h=1.0),
        DirectedCooccurrence(),
    ):
        score_BN = prepared(contender, told).score([case(completed)])

        assert score_BN.shape == (1, 4)
        assert np.isfinite(score_BN).all()
