"""The ledger: every accepted event is owed one recommendation."""

from hypothesis import given
from hypothesis import strategies as st

from nextwatch.demo.figures import ledger as ledger_module
from nextwatch.demo.figures.ledger import Ledger
from tests.support.builders import event_id


def at(offset):
    """Return the position of a record."""
    return ("watch-events", 0, offset)


def test_answer_settles_what_is_owed():
    """The latency is from the producer's stamp to the receipt."""
    ledger = Ledger()
    ledger.sent("a", at(0), 1_000)
    ledger.sent("b", at(1), 1_000)
    ledger.answered(["a"], 1_030)

    assert ledger.num_owed == 1
    assert ledger.latencies.percentiles(50) == {"p50": 30}


def test_only_the_first_answer_counts():
    """A re-delivered recommendation changes neither the account nor the latencies."""
    ledger = Ledger()
    ledger.sent("a", at(0), 1_000)
    for receipt_ms in (1_030, 9_999):
        ledger.answered(["a"], receipt_ms)

    assert (ledger.num_owed, len(ledger.latencies)) == (0, 1)
    assert ledger.latencies.percentiles(100) == {"p100": 30}


def test_answer_may_be_seen_before_its_event():
    """Two topics are read side by side; neither order loses anything."""
    ledger = Ledger()
    ledger.answered(["a"], 1_030)
    ledger.sent("a", at(0), 1_000)

    assert ledger.num_owed == 0
    assert ledger.latencies.percentiles(50) == {"p50": 30}


def test_events_and_recommendations_are_counted_at_one_moment():
    """An answer that is seen first counts with the first of its events."""
    ledger = Ledger()
    ledger.answered(["a", "b"], 1_030)
    assert (ledger.num_recommendations, ledger.num_answered) == (0, 0)
    ledger.sent("a", at(0), 1_000)
    assert (ledger.num_recommendations, ledger.num_answered) == (1, 1)
    ledger.sent("b", at(1), 1_000)

    assert (ledger.num_recommendations, ledger.num_answered) == (1, 2)


def test_a_second_recommendation_for_an_event_is_counted_too():
    """Delivery repeats, whether the event was seen before or after; the event is answered once."""
    ledger = Ledger()
    ledger.sent("a", at(0), 1_000)
    for name in ("a", "a", "b", "b"):
        ledger.answered([name], 1_030)
    ledger.sent("b", at(1), 1_000)

    assert (ledger.num_recommendations, ledger.num_answered) == (4, 2)


def test_dead_letter_is_owed_nothing():
    """A rejected event is told by the place of its record, before or after it was seen."""
    ledger = Ledger()
    ledger.dead_lettered(at(0))
    ledger.sent("a", at(0), 1_000)
    ledger.sent("b", at(1), 1_000)
    assert ledger.num_owed == 1
    ledger.dead_lettered(at(1))

    assert ledger.num_owed == 0


def test_unreadable_event_is_counted_and_owed_nothing():
    """What has no id cannot be answered."""
    ledger = Ledger()
    ledger.sent(None, at(0), 1_000)

    assert (ledger.num_sent, ledger.num_unreadable, ledger.num_owed) == (1, 1, 0)


def test_the_form_of_a_uuid_does_not_matter():
    """A repeat may be written in other letters, and is the same event to the contract."""
    uuid = event_id("e")
    ledger = Ledger()
    ledger.sent(uuid.upper(), at(0), 1_000)
    ledger.answered([uuid.replace("-", "")], 1_001)

    assert ledger.num_owed == 0


def test_answers_of_long_ago_are_forgotten(monkeypatch):
    """The memory of a long run is bounded; what is owed is not forgotten."""
    monkeypatch.setattr(ledger_module, "MOST_REMEMBERED", 10)
    ledger = Ledger()
    ledger.sent("owed", at(0), 0)
    for number in range(100):
        ledger.sent(str(number), at(number + 1), 0)
        ledger.answered([str(number)], 1)
        ledger.dead_lettered(("search-events", 0, number))

    assert ledger.num_owed == 1
    assert (len(ledger._answered_ms), len(ledger._dead)) == (10, 10)
    assert len(ledger._owed_at) == 1


def test_a_system_that_answers_nothing_does_not_fill_the_memory(monkeypatch):
    """From some number on, unanswered events are only counted."""
    monkeypatch.setattr(ledger_module, "MOST_OWED", 10)
    ledger = Ledger()
    for number in range(100):
        ledger.sent(str(number), at(number), 0)

    assert ledger.num_owed == 100
    assert (len(ledger._owed), len(ledger._owed_at)) == (10, 10)


def test_the_longest_wait_is_told():
    """What is not answered at all shows before any latency does."""
    ledger = Ledger()
    for number, sent_ms in enumerate((1_000, 2_000, 3_000)):
        ledger.sent(str(number), at(number), sent_ms)
    ledger.answered(["0"], 3_000)

    assert ledger.oldest_owed_ms() == 2_000
    ledger.answered(["1"], 3_000)
    ledger.dead_lettered(at(2))
    assert ledger.oldest_owed_ms() is None


def test_latency_counts_for_the_minute_of_the_event():
    """The account by minutes is kept beside that of the whole run."""
    ledger = Ledger()
    ledger.sent("a", at(0), 0)
    ledger.sent("b", at(1), 60_000)
    ledger.answered(["a"], 61_000)

    assert [(m.events, m.answered) for m in ledger.minutes.figures()] == [(1, 1), (1, 0)]


@given(
    st.lists(
        st.tuples(st.sampled_from(["sent", "answered", "dead"]), st.integers(0, 5)), max_size=40
    )
)
def test_owed_events_are_neither_answered_nor_rejected(steps):
    """Whatever comes in whatever order and however often, the account is right."""
    ledger = Ledger()
    seen = {"sent": set(), "answered": set(), "dead": set()}
    for what, number in steps:
        seen[what].add(number)
        if what == "sent":
            ledger.sent(str(number), at(number), 0)
        elif what == "answered":
            ledger.answered([str(number)], 1)
        else:
            ledger.dead_lettered(at(number))

    assert ledger.num_owed == len(seen["sent"] - seen["answered"] - seen["dead"])
    both = seen["sent"] & seen["answered"]
    assert len(both - seen["dead"]) <= ledger.num_answered <= len(both)
