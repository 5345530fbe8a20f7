"""Two models on the same examples."""

import numpy as np
import pytest

from trainer.guard.paired import MIN_DEVIATIONS, MOST_LOST, TOLERANCE, PairedRecall


def noted(hit, other, count, *, num_users=100):
    paired = PairedRecall()
    paired.note(np.full(count, hit), np.full(count, other), users(count, num_users))
    return paired


def users(count, num_users):
    return [f"u{n % num_users}" for n in range(count)]


def test_a_model_that_finds_less_is_worse_after_enough_examples():
    needed = int(MOST_LOST / (0.5 - TOLERANCE)) + 1
    assert noted(0.0, 0.5, needed).is_worse
    assert not noted(0.0, 0.5, needed - 2).is_worse


def test_what_is_tolerated_never_adds_up():
    assert not noted(0.5, 0.5 + 0.9 * TOLERANCE, 100_000).is_worse


@pytest.mark.parametrize(("num_users", "is_worse"), [(1, False), (3, False), (5, True)])
def test_few_users_are_few_witnesses_however_much_they_watch(num_users, is_worse):
    """What a model costs one person says nothing of what it costs the next one."""
    paired = noted(0.0, 1.0, 10_000, num_users=num_users)
    assert paired.is_worse == is_worse
    assert paired.share_of_bound == pytest.approx(num_users**0.5 / MIN_DEVIATIONS, rel=0.01)


def alarms(*, deviation, loss, num_users, num_examples=600):
    """Return the share of 200 audiences whose users each lose *loss*, give or take *deviation*."""
    rng = np.random.default_rng(1)
    ids = users(num_examples, num_users)
    numbers = np.arange(num_examples) % num_users
    found = []
    for _ in range(200):
        rate = np.clip(0.5 - loss - deviation * rng.standard_normal(num_users), 0.0, 1.0)
        paired = PairedRecall()
        paired.note(
            (rng.random(num_examples) < rate[numbers]).astype(float),
            (rng.random(num_examples) < 0.5).astype(float),
            ids,
        )
        found.append(paired.is_worse)
    return float(np.mean(found))


def test_users_who_differ_raise_fewer_alarms_and_a_loss_of_all_raises_as_many(monkeypatch):
    """Against counting each example as a witness of its own."""
    cases = {
        "none is lost, few users": {"deviation": 0.3, "loss": 0.0, "num_users": 12},
        "lost by all, few users": {"deviation": 0.1, "loss": 0.3, "num_users": 25},
        "lost by all, many users": {"deviation": 0.1, "loss": 0.3, "num_users": 300},
    }
    by_user = {name: alarms(**given) for name, given in cases.items()}
    monkeypatch.setattr("trainer.guard.paired.MIN_DEVIATIONS", 0.0)
    by_example = {name: alarms(**given) for name, given in cases.items()}

    assert by_example["none is lost, few users"] > 0.2
    assert by_user["none is lost, few users"] < 0.03
    for name in ("lost by all, few users", "lost by all, many users"):
        assert by_user[name] == by_example[name] == 1.0


def test_an_erased_user_is_not_kept():
    paired = noted(0.0, 1.0, 30, num_users=3)
    share = paired.share_of_bound
    paired.forget("u1")
    assert "u1" not in str(paired)
    assert paired.share_of_bound == share


def test_a_good_model_that_turns_bad_is_seen_as_soon_as_a_bad_one():
    paired = noted(0.9, 0.5, 10_000)
    paired.note(np.zeros(100), np.full(100, 0.5), users(100, 100))
    assert paired.is_worse
    assert paired.num_since == 100


def test_recall_is_reached_by_as_much_and_no_less():
    assert noted(0.5, 0.5, 10).reaches
    assert not noted(0.5, 0.51, 10).reaches
