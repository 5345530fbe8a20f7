"""Figures of rankers: each worked by hand, and by what must not change it."""

import math

import numpy as np
import pytest

from nextwatch.evaluate.ranking import metrics


def flags(text):
    """Return labels, one a letter of *text*: ``+`` is a positive."""
    return np.array([letter == "+" for letter in text])


def numbers(*values):
    return np.array(values, np.float64)


def users(*codes):
    return np.array(codes, np.int64)


def test_auc_is_the_share_of_pairs_in_order_and_a_tie_is_half():
    """Positives .9 and .4 against negatives .4 and .1: in order 3 of 4 pairs, one tied."""
    assert metrics.auc(flags("+-+-"), numbers(0.9, 0.4, 0.4, 0.1)) == pytest.approx(3.5 / 4)


def test_a_weight_of_two_is_the_exposure_twice():
    """What a bootstrap needs: drawing a user again is counting its rows again."""
    positive, score = flags("+-+-"), numbers(0.3, 0.6, 0.7, 0.1)
    twice = metrics.auc(flags("++-+-"), numbers(0.3, 0.3, 0.6, 0.7, 0.1))

    assert metrics.auc(positive, score, numbers(2, 1, 1, 1)) == pytest.approx(twice)


def test_auc_without_a_negative_is_not_a_number():
    """There is no pair, and zero would be a verdict."""
    assert math.isnan(metrics.auc(flags("++"), numbers(0.1, 0.2)))


def test_gauc_weighs_the_auc_of_each_user_that_has_both_labels():
    """User 0 has AUC 1 and 2 exposures, user 1 has 1/2 and 3, user 2 has no negative."""
    user, label = users(0, 0, 1, 1, 1, 2), flags("+-+--+")
    score = numbers(0.8, 0.2, 0.5, 0.9, 0.1, 0.5)
    pairs = metrics.user_pairs(user, label, score)

    assert metrics.gauc(pairs, numbers(2, 3, 1)).mean == pytest.approx((2 * 1 + 3 * 0.5) / 5)


def test_scores_of_different_users_are_never_compared():
    """Adding a constant to all scores of one user changes nothing within users."""
    rng = np.random.default_rng(0)
    user, label, score = rng.integers(5, size=60), rng.random(60) < 0.5, rng.random(60)
    moved = score + 10.0 * user

    for found, other in zip(
        metrics.user_pairs(user, label, score),
        metrics.user_pairs(user, label, moved),
        strict=True,
    ):
        assert found == pytest.approx(other)


def test_rank_loss_is_the_share_of_pairs_with_the_negative_above():
    """User 0: pairs (.5, .9) lost, (.5, .5) half lost; user 1: (.7, .1) in order."""
    pairs = metrics.user_pairs(
        users(0, 0, 0, 1, 1), flags("+--+-"), numbers(0.5, 0.9, 0.5, 0.7, 0.1)
    )

    assert metrics.rank_loss(pairs).mean == pytest.approx(1.5 / 3)


def test_weighted_per_user_loss_is_the_share_of_watch_time_in_misordered_pairs():
    """Watched 10 s with one of two negatives above, 40 s with none: 10 of 2*10 + 2*40."""
    pairs = metrics.user_pairs(
        users(0, 0, 0, 0),
        flags("++--"),
        numbers(0.5, 0.9, 0.7, 0.1),
        numbers(10, 40, 3, 3),
    )

    assert metrics.rank_loss(pairs).mean == pytest.approx(10 / 100)


def test_the_watch_time_of_a_negative_is_worth_nothing():
    """A negative that was played for a second has no part in the loss."""
    arguments = (users(0, 0, 0), flags("+--"), numbers(0.5, 0.9, 0.1))

    with_time = metrics.user_pairs(*arguments, numbers(10, 200, 300))
    without = metrics.user_pairs(*arguments, numbers(10, 0, 0))

    assert metrics.rank_loss(with_time).mean == metrics.rank_loss(without).mean == 0.5


def test_ndcg_is_the_discounted_gain_over_the_best_possible():
    """Positives on places 1 and 3 of three."""
    found = metrics.ndcg_at(
        *(5, users(0, 0, 0), flags("+-+"), numbers(0.9, 0.5, 0.1)),
        is_zero_without_positive=False,
    )

    best = 1 / math.log2(2) + 1 / math.log2(3)
    assert found.mean == pytest.approx((1 / math.log2(2) + 1 / math.log2(4)) / best)


def test_ndcg_looks_no_further_than_k():
    """The only positive is on place 3, and k is 2."""
    found = metrics.ndcg_at(
        *(2, users(0, 0, 0), flags("--+"), numbers(0.9, 0.5, 0.1)),
        is_zero_without_positive=False,
    )

    assert found.mean == 0.0


def test_the_best_possible_ndcg_has_no_more_than_k_positives():
    """Six positives of six: the first five places are all anybody can fill."""
    found = metrics.ndcg_at(
        *(5, users(*[0] * 6), flags("++++++"), np.arange(6.0)), is_zero_without_positive=False
    )

    assert found.mean == pytest.approx(1.0)


@pytest.mark.parametrize(("is_zero", "expected"), [(True, 0.5), (False, 1.0)])
def test_a_user_without_a_positive_is_zero_or_left_out(is_zero, expected):
    """User 0 has nDCG 1, user 1 has nothing to find."""
    found = metrics.ndcg_at(
        *(5, users(0, 0, 1), flags("+--"), numbers(0.9, 0.1, 0.5)),
        is_zero_without_positive=is_zero,
    )

    assert found.mean == pytest.approx(expected)


def test_a_tie_is_worth_the_mean_of_its_places():
    """One positive among two equal scores: half the gain of either place."""
    found = metrics.ndcg_at(
        *(5, users(0, 0), flags("+-"), numbers(0.5, 0.5)), is_zero_without_positive=False
    )

    assert found.mean == pytest.approx((1 + 1 / math.log2(3)) / 2)


def test_precision_and_recall_are_of_the_first_k_of_each_user_with_a_positive():
    """User 0: one of its first two is positive, of three. User 1 has none, and is left out."""
    precision, recall = metrics.precision_and_recall_at(
        2,
        users(0, 0, 0, 0, 1),
        flags("+-++-"),
        numbers(0.9, 0.8, 0.2, 0.1, 0.5),
    )

    assert precision.mean == pytest.approx(1 / 2)
    assert recall.mean == pytest.approx(1 / 3)


def test_precision_of_fewer_exposures_than_k_is_over_those_there_are():
    """One exposure, positive: everything shown was right."""
    precision, recall = metrics.precision_and_recall_at(5, users(0), flags("+"), numbers(0.5))

    assert (precision.mean, recall.mean) == (1.0, 1.0)


def test_log_loss_is_the_mean_negative_log_likelihood():
    losses = metrics.log_losses(flags("+-"), numbers(0.8, 0.4))

    assert losses.mean() == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)


def test_log_loss_of_a_certain_mistake_is_large_and_finite():
    losses = metrics.log_losses(flags("+-"), numbers(0.0, 1.0))

    assert np.isfinite(losses).all()
    assert losses.min() > 10


def test_xauc_is_the_share_of_pairs_with_different_watch_times_in_order():
    """Of 1, 2, 2, 5 five pairs differ; one (1, 2) is out of order, one (2, 5) is tied."""
    watch_s, predicted_s = numbers(1, 2, 2, 5), numbers(3, 2, 4, 4)

    assert metrics.xauc(watch_s, predicted_s) == pytest.approx(3.5 / 5)


def test_xauc_agrees_with_counting_all_pairs():
    """With many ties on both sides."""
    rng = np.random.default_rng(0)
    watch_s, predicted_s = rng.integers(6, size=80) * 1.0, rng.integers(5, size=80) * 1.0
    later, earlier = np.triu_indices(80, k=1)
    difference = watch_s[later] - watch_s[earlier]
    agreement = np.sign(difference) * np.sign(predicted_s[later] - predicted_s[earlier])
    differ = difference != 0

    assert metrics.xauc(watch_s, predicted_s) == pytest.approx((0.5 + agreement[differ] / 2).mean())


def test_a_constant_prediction_has_xauc_one_half():
    assert metrics.xauc(numbers(1, 2, 3), numbers(7, 7, 7)) == 0.5


def test_calibration_compares_means_by_quantile():
    """Two buckets of two: predicted .15 of observed 0, predicted .7 of observed 1/2."""
    p = numbers(0.1, 0.2, 0.6, 0.8)
    low, high = metrics.calibration(p, p, numbers(0, 0, 0, 1), num_buckets=2)

    assert (low.num_exposures, low.predicted, low.observed) == (2, pytest.approx(0.15), 0.0)
    assert (high.num_exposures, high.predicted, high.observed) == (2, pytest.approx(0.7), 0.5)
    assert high.ratio == pytest.approx(1.4)


def test_equal_values_are_in_one_bucket():
    """All durations alike: there is one decile."""
    (bucket,) = metrics.calibration(np.full(20, 30.0), np.ones(20), np.ones(20))

    assert bucket.num_exposures == 20
