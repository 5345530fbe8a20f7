"""What `model-bundles` says, in the order in which it says it."""

import pytest

from contract.wire.events import BundleState
from tests.trainer.doubles import announcement
from trainer.publish.generations import MAX_REMEMBERED, Generations

OFFERED, INDEXED = BundleState.OFFERED, BundleState.INDEXED
IN_SERVICE, WITHDRAWN = BundleState.IN_SERVICE, BundleState.WITHDRAWN


def after(*said):
    """Return the generations after (generation, state) pairs."""
    generations = Generations()
    for generation, state in said:
        generations.note(announcement(generation, state))
    return generations


@pytest.mark.parametrize(
    ("said", "in_service"),
    [
        ([], None),
        ([(1, OFFERED), (1, INDEXED)], None),
        ([(1, IN_SERVICE), (2, OFFERED)], 1),
        ([(1, IN_SERVICE), (2, IN_SERVICE)], 2),
        ([(1, IN_SERVICE), (2, IN_SERVICE), (2, WITHDRAWN)], 1),
        ([(1, IN_SERVICE), (1, WITHDRAWN), (1, IN_SERVICE)], None),
        ([(2, IN_SERVICE), (1, IN_SERVICE)], 2),
        ([(1, IN_SERVICE), (2, IN_SERVICE), (2, WITHDRAWN), (1, IN_SERVICE)], 1),
    ],
)
def test_the_highest_generation_that_is_not_withdrawn_is_in_service(said, in_service):
    assert after(*said).in_service == in_service


def test_there_is_no_bundle_when_all_were_withdrawn():
    assert not after((1, OFFERED), (1, WITHDRAWN)).has_any
    assert not after((1, OFFERED), (1, WITHDRAWN), (1, OFFERED)).has_any  # delivered again


def test_two_that_wait_are_enough():
    """With the one in service they are as many as the learner keeps frozen."""
    assert not after((1, IN_SERVICE), (2, OFFERED)).is_backed_up
    assert after((1, IN_SERVICE), (2, OFFERED), (3, INDEXED)).is_backed_up
    assert not after((1, IN_SERVICE), (2, WITHDRAWN), (3, INDEXED)).is_backed_up


def test_remembers_the_metrics_of_the_newest_bundle():
    """Later states carry none, and older bundles do not count."""
    generations = Generations()
    generations.note(announcement(1, metrics={"loss": 1.0}))
    generations.note(announcement(2, metrics={"loss": 2.0}))
    generations.note(announcement(2, IN_SERVICE))
    generations.note(announcement(1, WITHDRAWN, metrics={"loss": 3.0}))

    assert generations.metrics == {"loss": 2.0}


def test_metrics_of_a_withdrawn_generation_are_not_what_the_next_has_to_reach():
    """Bots watch what is recommended to them: without them it is not found again, ever."""
    generations = Generations()
    generations.note(announcement(1, IN_SERVICE, metrics={"recall": 0.3}))
    generations.note(announcement(2, IN_SERVICE, metrics={"recall": 0.9}))
    generations.note(announcement(2, WITHDRAWN, metrics={"recall": 0.9}))

    assert generations.metrics == {"recall": 0.3}


def test_a_bundle_with_a_tombstone_is_forgotten_and_its_number_is_not():
    """It cannot serve any more; what is withdrawn or in service says what is to be done."""
    generations = after((1, IN_SERVICE), (2, IN_SERVICE), (3, IN_SERVICE), (4, OFFERED),
                        (5, IN_SERVICE), (5, WITHDRAWN))  # fmt: skip

    for bundle_id in ("b1", "b3", "b4", "b5", "unknown"):
        generations.forget(bundle_id)

    assert [bundle.generation for bundle in generations.not_withdrawn] == [2, 3]
    assert (generations.withdrawn, generations.newest) == ({5}, 5)


def test_a_month_of_announcements_is_not_remembered():
    """Two a minute: what lies behind the one in service says nothing any more."""
    generations = after(*[(n, state) for n in range(1, 2_000) for state in (OFFERED, IN_SERVICE)])

    assert len(generations._log) <= MAX_REMEMBERED
    assert (generations.in_service, generations.newest) == (1_999, 1_999)
    assert generations.has_any
