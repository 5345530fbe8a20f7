"""The state machine of `model-bundles`: what is announced, however it is delivered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from contract.bundle_log import SERVABLE, BundleLog
from contract.wire.events import BundleAnnouncement, BundleState
from tests.support.builders import T0

OFFERED, INDEXED = BundleState.OFFERED, BundleState.INDEXED
IN_SERVICE, WITHDRAWN = BundleState.IN_SERVICE, BundleState.WITHDRAWN
STORIES = st.lists(st.tuples(st.integers(1, 6), st.sampled_from(BundleState)), max_size=30)


def announcement(generation, state, revision=0):
    """Return an announcement; a generation's bundle is called after it."""
    return BundleAnnouncement(
        revision=revision,
        bundle_id=f"b{generation}",
        generation=generation,
        state=state,
        url="memory://b",
        manifest_sha256="0" * 64,
        announced_at_ms=T0,
    )


def log_of(*story, monotonic=lambda: 0.0):
    """Return the log after (generation, state) pairs."""
    log = BundleLog(monotonic)
    for generation, state in story:
        log.apply(announcement(generation, state))
    return log


def known(log):
    """Return everything that the log tells."""
    states = {bundle.bundle_id: bundle.state for bundle in log}
    return states, log.in_service, log.newest_generation


@pytest.mark.parametrize(
    ("states", "last"),
    [
        ([OFFERED], OFFERED),
        ([OFFERED, INDEXED], INDEXED),
        ([OFFERED, INDEXED, IN_SERVICE], IN_SERVICE),
        ([INDEXED, OFFERED], INDEXED),
        ([IN_SERVICE, OFFERED, INDEXED], IN_SERVICE),
        ([WITHDRAWN, OFFERED, INDEXED], WITHDRAWN),
        ([IN_SERVICE, WITHDRAWN], WITHDRAWN),
        ([WITHDRAWN, IN_SERVICE], WITHDRAWN),
    ],
)
def test_an_earlier_state_changes_nothing_and_else_the_newest_announcement_counts(states, last):
    assert log_of(*((1, state) for state in states)).state("b1") is last


def test_a_withdrawn_bundle_comes_back_by_a_new_revision_alone():
    """A slow worker still announces the old revision as in service."""
    log = log_of((1, IN_SERVICE), (2, IN_SERVICE), (2, WITHDRAWN), (2, IN_SERVICE))
    assert log.in_service == 1

    log.apply(announcement(2, OFFERED, revision=1))
    log.apply(announcement(2, WITHDRAWN))
    assert log.state("b2") is OFFERED
    log.apply(announcement(2, IN_SERVICE, revision=1))
    assert log.in_service == 2


@given(STORIES, st.data())
def test_steps_that_are_delivered_again_change_nothing(story, data):
    """At-least-once: a producer may repeat `offered` and `indexed` at any later time."""
    repeated = list(story)
    for at, (generation, state) in reversed(list(enumerate(story))):
        later = [s for g, s in story[at + 1 :] if g == generation]
        if state in (OFFERED, INDEXED) and state not in later and data.draw(st.booleans()):
            behind = data.draw(st.integers(at + 1, len(repeated)))
            repeated.insert(behind, (generation, state))

    assert known(log_of(*repeated)) == known(log_of(*story))


@given(STORIES)
def test_a_log_that_is_read_again_from_its_beginning_keeps_what_is_in_service(story):
    """The few announcements are read twice at a start."""
    assert log_of(*story, *story).in_service == log_of(*story).in_service


@given(STORIES, st.randoms(use_true_random=False))
def test_what_is_in_service_does_not_depend_on_the_order_of_delivery(story, random):
    """A slower worker announced an older generation later, and it counted as the one in service."""
    shuffled = random.sample(story, len(story))

    withdrawn = {generation for generation, state in story if state is WITHDRAWN}
    served = {generation for generation, state in story if state is IN_SERVICE} - withdrawn

    for log in (log_of(*story), log_of(*shuffled)):
        assert log.in_service == max(served, default=None)
        assert log.newest_generation == max((generation for generation, _ in story), default=0)


@given(STORIES)
def test_bundles_come_by_generation_and_each_is_in_one_state(story):
    log = log_of(*story)
    by_state = [bundle for state in BundleState for bundle in log.in_state(state)]

    assert sorted(b.bundle_id for b in by_state) == sorted(b.bundle_id for b in log)
    generations = [bundle.generation for bundle in log.in_state(*SERVABLE)]
    assert generations == sorted(generations)
    assert {b.bundle_id for b in log.not_withdrawn} == {
        b.bundle_id for b in log if b.state is not WITHDRAWN
    }


@given(STORIES, st.integers(0, 6))
def test_the_bundles_of_least_worth_are_forgotten_first(story, most):
    log = log_of(*story)
    before = sorted(bundle.generation for bundle in log)

    log.forget_least(lambda bundle: bundle.generation, most=most)

    assert sorted(bundle.generation for bundle in log) == before[max(0, len(before) - most) :]


def test_of_equal_worth_the_one_that_was_announced_first_is_forgotten():
    log = log_of((1, OFFERED), (2, OFFERED), (1, INDEXED))

    log.forget_least(lambda _bundle: 0, most=1)

    assert [bundle.generation for bundle in log] == [1]


def test_a_rejected_bundle_is_not_tried_again_until_it_is_forgotten():
    log = log_of((1, OFFERED))
    with capture_logs() as told:
        log.reject("b1", reason="damaged")

    assert (log.is_due("b1"), log.is_rejected("b1")) == (False, True)
    assert told == [
        {
            "event": "bundle_refused",
            "log_level": "warning",
            "bundle_id": "b1",
            "reason": "damaged",
        }
    ]
    log.forget("b1")
    assert (log.is_due("b1"), log.state("b1"), len(log)) == (True, None, 0)


def test_a_postponed_bundle_is_due_after_waits_that_double():
    now_s = [0.0]
    log = log_of((1, OFFERED), monotonic=lambda: now_s[0])
    tried_at = []
    for now_s[0] in range(20):
        if log.is_due("b1"):
            tried_at.append(now_s[0])
            log.postpone("b1", reason="the store does not answer")

    assert tried_at == [0, 1, 3, 7, 15]
