"""Which examples of a batch are validated: those that the budget pays for, the same ones always."""

import numpy as np
import pytest

from models.features.examples import Example
from models.history.history import EMPTY
from tests.support.builders import T0
from trainer.evaluate.sample import NS_PER_SCORE, NS_PER_VECTOR, ValidationBudget


def examples(count):
    return [Example(f"u{n}", EMPTY, f"v{n % 7}", T0 + n) for n in range(count)]


def budget_of(num_scores):
    """Return a budget that pays for so many scores."""
    return ValidationBudget(ms=2 * num_scores * NS_PER_SCORE / 1e6)


def test_a_batch_that_the_budget_pays_for_is_validated_whole():
    assert budget_of(64 * 1_000).draw(examples(64), 1_000) == list(range(64))


def test_of_a_large_catalogue_as_many_are_drawn_as_the_budget_pays_for():
    places = budget_of(5 * 100_000).draw(examples(64), 100_000)

    assert len(places) == 5
    assert places == sorted(set(places))


def test_one_example_is_drawn_whatever_the_catalogue():
    """Without any, a trainer of a huge catalogue would never know how good it is."""
    assert len(budget_of(1).draw(examples(64), 10**9)) == 1


def test_the_same_examples_are_drawn_in_whatever_order_they_came():
    """A hash decides, so a replay of the log has the same figures."""
    given = examples(100)
    budget = budget_of(10 * 1_000)

    drawn = {given[place] for place in budget.draw(given, 1_000)}
    reversed_given = given[::-1]

    assert {reversed_given[place] for place in budget.draw(reversed_given, 1_000)} == drawn


def test_every_place_of_a_batch_is_drawn_about_as_often():
    """An example that came late in its batch has not seen more of it than another."""
    budget, counts = budget_of(10 * 1_000), np.zeros(40)
    for batch in range(400):
        given = [one._replace(event_time_ms=T0 + 1_000 * batch + n) for n, one in
                 enumerate(examples(40))]  # fmt: skip
        counts[budget.draw(given, 1_000)] += 1

    assert counts.sum() == 4_000
    assert np.abs(counts - 100).max() < 40  # 100 expected, standard deviation 8.7


def test_half_of_the_budget_is_for_vectors():
    assert ValidationBudget(ms=2 * 70 * NS_PER_VECTOR / 1e6).num_vectors == 70


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0 ms, got 0"):
        ValidationBudget(ms=0)
