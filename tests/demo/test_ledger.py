"""The ledger: every accepted event is owed one recommendation."""

from hypothesis import given
from hypothesis import strategies as st

from nextwatch.demo import ledger as ledger_module
from nextwatch.demo.ledger import Ledger
from tests.builders import event_id


def at(offset):
    """Return the position of a record."""
    return ("watch-events", 0, offset)


def test_answer_settles_what_is_owed():
    """The latency is from the producer's stamp to the receipt."""
    ledger = Ledger()
    ledger.sent("a", at(0), 1_000)
    ledger.sent("b", at(1), 1_000)
    ledger.answered("a", 1_030)

    assert ledger.num_owed == 1
    assert ledger.latencies.percentiles(50) == {"p50": 30}


def test_only_the_first_answer_counts():
    """A re-delivered recommendation changes neither the account nor the latencies."""
    ledger = Ledger()
    ledger.sent("a", at(0), 1_000)
    for receipt_ms in (1_030, 9_999):
        ledger.answered("a", receipt_ms)

    assert (ledger.num_owed, len(ledger.latencies)) == (0, 1)
    assert ledger.latencies.percentiles(100) == {"p100": 30}


def test_answer_may_be_seen_before_its_event():
    """Two topics are read side by side; neither order loses anything."""
    ledger = Ledger()
    ledger.answered("a", 1_030)
    ledger.sent("a", at(0), 1_000)

    assert ledger.num_owed == 0
    assert ledger.latencies.percentiles(50) == {"p50": 30}


def test_dead_letter_is_owed_nothing():
    """A refused event is told by the place of its record, before or after it was seen."""
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
    ledger.answered(uuid.replace("-", ""), 1_001)

    assert ledger.num_owed == 0


def test_answers_of_long_ago_are_forgotten(monkeypatch):
    """The memory of a long run is bounded; what is owed is never forgotten."""
    monkeypatch.setattr(ledger_module, "_MOST_REMEMBERED", 10)
    ledger = Ledger()
    ledger.sent("owed", at(0), 0)
    for number in range(100):
        ledger.sent(str(number), at(number + 1), 0)
        ledger.answered(str(number), 1)

    assert ledger.num_owed == 1
    assert len(ledger._answered_ms) == 10


@given(
    st.lists(
        st.tuples(st.sampled_from(["sent", "answered", "dead"]), st.integers(0, 5)), max_size=40
    )
)
def test_debt_is_what_was_sent_and_neither_answered_nor_refused(steps):
    """Whatever comes in whatever order and however often, the account is right."""
    ledger = Ledger()
    seen = {"sent": set(), "answered": set(), "dead": set()}
    for what, number in steps:
        seen[what].add(number)
        if what == "sent":
            ledger.sent(str(number), at(number), 0)
        elif what == "answered":
            ledger.answered(str(number), 1)
        else:
            ledger.dead_lettered(at(number))

    assert ledger.num_owed == len(seen["sent"] - seen["answered"] - seen["dead"])
    assert len(ledger.latencies) == len(seen["sent"] & seen["answered"])
