"""The flow that is fed under faults, and the oracle that says what must come of it."""

from collections import Counter
from itertools import accumulate, islice

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.faults.flow import Flow
from benchmarks.windows import oracle
from contract.wire.decoding import decode
from contract.wire.events import encode
from models.history import codec as history_codec
from models.history.history import EMPTY, WindowPolicy, fold
from tests.support.builders import search, watch


def deliveries(seed, number=4_000):
    return list(islice(iter(Flow(seed)), number))


def test_the_same_seed_is_the_same_stream_and_another_seed_is_another():
    """A failure can be played again; two stacks share no user."""
    one, other = deliveries(1), deliveries(2)

    assert deliveries(1) == one
    assert not {d.event.user_id for d in one} & {d.event.user_id for d in other}


def test_most_users_have_one_to_three_events():
    """A window that overflows hides its wounds; a few overflow all the same."""
    by_user = Counter({d.event.event_id: d.event.user_id for d in deliveries(1)}.values())
    few = sum(count <= 3 for count in by_user.values())

    assert few / len(by_user) > 0.95
    assert max(by_user.values()) > oracle.NUM_WATCHES


def test_five_percent_come_twice_and_five_percent_late():
    """As a player that retries and a network that reorders do it."""
    events = [d.event for d in deliveries(1, 10_000)]
    first = list(dict.fromkeys(event.event_id for event in events))
    times = {event.event_id: event.event_time_ms for event in events}
    in_order = [times[name] for name in first]
    num_late = sum(
        one < newest for one, newest in zip(in_order, accumulate(in_order, max), strict=True)
    )

    assert 0.03 < 1 - len(first) / len(events) < 0.07
    assert 0.03 < num_late / len(first) < 0.07


def test_every_event_of_the_flow_is_accepted():
    """What is lost must have been good."""
    for delivery in deliveries(3, 500):
        event = delivery.event
        decode(delivery.topic, type(event), event.user_id.encode(), encode(event))


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_both_oracles_agree_whatever_the_order(seed, rng):
    """One shares no code with the windows, the other is the windows; repeats change neither."""
    events = [d.event for d in deliveries(seed, 200)]
    records = oracle.undisturbed(events, WindowPolicy())
    rng.shuffle(events)

    assert {user: oracle.drawn(record) for user, record in records.items()} == oracle.expected(
        events
    )


def test_a_missing_entry_is_lost_and_a_missing_user_is_all_of_his():
    """Every entry counts, of watches and searches alike."""
    events = [watch("v1", at_ms=1), watch("v2", at_ms=2), search(user_id="u2")]
    wanted = oracle.expected(events)
    found = oracle.expected(events[:1])

    assert oracle.num_lost(wanted, wanted) == 0
    assert oracle.num_lost(wanted, found) == 2


def test_an_entry_that_stands_twice_is_counted():
    """Same id, other content: applied twice."""
    window = oracle.Drawn([(1, "a", "v1"), (2, "a", "v1")], [(1, "b", "soup")], None)

    assert oracle.num_twice([window]) == 1


def test_the_digest_tells_one_entry_less():
    """States are compared by it."""
    full = fold(EMPTY, [watch("v1", at_ms=1), watch("v2", at_ms=2)], WindowPolicy())
    less = fold(EMPTY, [watch("v1", at_ms=1)], WindowPolicy())
    states = [{"u1": history_codec.encode(window)} for window in (full, less)]

    assert oracle.digest(states[0]) != oracle.digest(states[1])
