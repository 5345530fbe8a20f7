"""When a bundle has to be like what serves: norms and scores of a model settle as it learns."""

from types import SimpleNamespace

import numpy as np
import pytest

from models.features.examples import CompletionRule, Example
from models.features.features import FeatureEncoder
from models.features.vocabulary import Vocabulary
from models.history.history import EMPTY
from tests.support.builders import T0
from trainer.guard import guard as guard_module
from trainer.guard.guard import MIN_EVIDENCE, Guard


def a_guard():
    features = FeatureEncoder(content_buckets=64, context_buckets=8, completion=CompletionRule())
    return Guard(Vocabulary(features), CompletionRule(), cpu_s=lambda: 0.0)


def generation(num_examples):
    return SimpleNamespace(num_examples=num_examples)


@pytest.mark.parametrize(
    ("num_served", "num_candidate", "is_like"),
    [(0, 0, True), (0, 5_000, False), (4_000, 10_000, False), (90_000, 91_000, True)],
)
def test_what_has_learned_from_much_more_may_have_any_norms(num_served, num_candidate, is_like):
    """The first generation has learned nothing; the second one may have read a long backlog."""
    guard = a_guard()
    assert guard._is_like(generation(num_candidate), generation(num_served)) == is_like


@pytest.mark.parametrize(("num_found", "is_like"), [(0.5, False), (0.4, True)])
def test_a_learner_that_finds_as_much_on_the_same_examples_may_have_any_norms(num_found, is_like):
    guard = a_guard()
    user_ids = [f"u{n}" for n in range(MIN_EVIDENCE)]
    found_B, served_B = np.full(MIN_EVIDENCE, num_found), np.full(MIN_EVIDENCE, 0.5)
    guard.versus_served.note(found_B, served_B, user_ids)
    assert guard._is_like(generation(100), generation(100)) == is_like


@pytest.mark.parametrize("num_learned", [MIN_EVIDENCE - 1, MIN_EVIDENCE])
def test_a_generation_is_worse_only_than_one_that_has_learned_from_enough(monkeypatch, num_learned):
    """The first ones of a new installation differ by luck."""
    guard = a_guard()
    examples = [Example(f"u{n}", EMPTY, "v", T0) for n in range(64)]

    def serving(number, hit):
        model = generation(num_learned)
        model.generation, model.items = number, {"v"}
        model.hits = lambda examples: np.full(len(examples), hit)
        return model

    guard.former, guard.served = serving(1, 1.0), serving(2, 0.0)
    monkeypatch.setattr(guard_module, "learner_hits", lambda _, examples: np.zeros(len(examples)))
    guard.score(examples, SimpleNamespace(dense_weights=dict, num_steps=0))

    assert (guard.alarm is not None) == (num_learned >= MIN_EVIDENCE)
