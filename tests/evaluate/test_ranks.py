"""Ranks and measures: worked by hand, and what must not change them."""

import math

import numpy as np
import pytest

from nextwatch.evaluate import ranks


def ranked(scores, label, exposed=()):
    return ranks.rank(np.array([scores], np.float32), [label], [list(exposed)])


def test_a_rank_counts_what_scored_better_and_what_scored_the_same():
    """Two are better than the label, and it shares its score with one other."""
    found = ranked([0.1, 0.9, 0.5, 0.7, 0.5], label=2)

    assert found.num_better_Q.tolist() == [2]
    assert found.num_equal_Q.tolist() == [2]


def test_an_exposed_video_is_not_a_candidate():
    """The two better ones were seen: the label is first, and neither was shown."""
    found = ranked([0.1, 0.9, 0.5, 0.7], label=2, exposed=[1, 3, 1])

    assert found.num_better_Q.tolist() == [0]
    assert sorted(found.shown_K.tolist()) == [0, 2]


def test_a_contender_that_scores_everything_alike_is_as_good_as_chance():
    """Ten of forty candidates are among the first ten, by lot."""
    found = ranked(np.zeros(40), label=7)

    assert ranks.means(ranks.gains(found))["recall_at_10"] == pytest.approx(10 / 40)


def test_a_tie_is_worth_the_mean_of_its_places():
    """The label shares places 2, 3 and 4 with two others."""
    found = ranked([0.9, 0.5, 0.5, 0.5, 0.1], label=2)

    told = ranks.means(ranks.gains(found))
    assert told["ndcg_at_10"] == pytest.approx(
        (1 / math.log2(3) + 1 / math.log2(4) + 1 / math.log2(5)) / 3
    )
    assert told["mrr"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)


def test_a_label_that_a_contender_rules_out_comes_after_everything_else():
    """With minus infinity it shares the last places with what else is ruled out."""
    found = ranked([0.3, -np.inf, -np.inf, 0.1], label=1)

    assert (found.num_better_Q.tolist(), found.num_equal_Q.tolist()) == ([2], [2])


def test_a_score_that_is_not_a_number_is_rejected():
    """A NaN compares as worse than anything, and would pass as a first place."""
    with pytest.raises(ValueError, match="not a number"):
        ranked([0.1, np.nan], label=0)


def test_a_case_about_something_seen_is_refused():
    """The protocol never asks for it, so it is a mistake."""
    with pytest.raises(ValueError, match="has been shown"):
        ranked([0.1, 0.2], label=0, exposed=[0])


def test_batches_join_into_the_whole():
    """Two batches of one are one batch of two."""
    score_BN = np.random.default_rng(0).random((2, 150), np.float32)
    whole = ranks.rank(score_BN.copy(), [3, 4], [[1], [2]])
    parts = [ranks.rank(score_BN[[n]].copy(), [3 + n], [[1 + n]]) for n in range(2)]

    joined = ranks.joined(parts, 150)

    assert joined.num_better_Q.tolist() == whole.num_better_Q.tolist()
    assert joined.num_shown_N.tolist() == np.bincount(whole.shown_K, minlength=150).tolist()
    assert len(whole.shown_K) == 2 * ranks.TOP


def test_coverage_and_gini_by_hand():
    """Of four videos one is shown three times and one once: the area under Lorenz' curve."""
    told = ranks.spread(np.array([0, 3, 0, 1]))

    # sorted 0 0 1 3: sum of (2i - n - 1) x = (-3)0 + (-1)0 + (1)1 + (3)3 = 10; 10 / (4 * 4)
    assert told == {"coverage_at_100": 0.5, "gini_at_100": pytest.approx(10 / 16)}


def test_the_interval_holds_the_mean_and_is_the_same_every_time():
    """It is drawn by a fixed seed."""
    gain_QM = np.random.default_rng(0).random((300, len(ranks.MEASURES)))
    users = [f"u{n % 40}" for n in range(300)]

    found = ranks.intervals(gain_QM, users)

    for name, mean in ranks.means(gain_QM).items():
        assert found[name][0] < mean < found[name][1]
    assert found == ranks.intervals(gain_QM, users)


def test_the_interval_draws_users_and_not_cases():
    """A hundred cases of two users are two draws: the interval is as wide as the users differ."""
    gain_QM = np.repeat([[0.0], [1.0]], 50, axis=0) * np.ones(len(ranks.MEASURES))

    low, high = ranks.intervals(gain_QM, ["a"] * 50 + ["b"] * 50)["mrr"]

    assert (low, high) == (0.0, 1.0)


def test_periods_add_up_to_the_whole():
    """The mean over periods, each weighed by its cases, is the mean over all."""
    score_BN = np.random.default_rng(1).random((30, 60), np.float32)
    found = ranks.rank(score_BN, [n % 60 for n in range(30)], [[]] * 30)

    told = ranks.summary(
        [ranks.joined([found], 60)], [f"u{n}" for n in range(30)], ["a"] * 10 + ["b"] * 20
    )

    for name in ranks.MEASURES:
        days = told["per_day"].values()
        assert sum(day["n"] * day[name] for day in days) / 30 == pytest.approx(told[name])


def test_seeds_are_averaged_case_by_case():
    """Two runs, one always right and one always wrong, are right half of the time."""
    right, wrong = ranked([1, 0, *[0] * 300], 0), ranked([0, *[1] * 301], 0)

    told = ranks.summary([ranks.joined([one], 302) for one in (right, wrong)], ["u"], ["day"])

    assert told["recall_at_200"] == 0.5
    assert [one["recall_at_200"] for one in told["by_seed"]] == [1.0, 0.0]


def test_a_video_that_was_not_found_ranks_last_and_is_not_shown():
    """A search that ends with three videos shows three; the label is one of seven others."""
    found = ranked([3.0, 2.0, 1.0, *[-math.inf] * 7], label=9)

    assert (found.num_better_Q.tolist(), found.num_equal_Q.tolist()) == ([3], [7])
    assert sorted(found.shown_K.tolist()) == [0, 1, 2]


def test_cold_cases_are_told_apart():
    """The mean of theirs alone; none where it is not known which are cold."""
    right, wrong = ranked([1, 0, *[0] * 300], 0), ranked([0, *[1] * 301], 0)
    tally = ranks.joined([right, wrong], 302)

    told = ranks.summary([tally], ["u", "v"], ["day"] * 2, [False, True])
    unknown = ranks.summary([tally], ["u", "v"], ["day"] * 2)

    assert (told["cold"]["n"], told["cold"]["recall_at_100"]) == (1, 0.0)
    assert unknown["cold"]["n"] == 0
