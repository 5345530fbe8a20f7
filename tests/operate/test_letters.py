"""Dead letters read back: what their headers say, whether they would pass, which are meant."""

import pytest

from contract.kafka.records import Position, Received
from contract.wire.dead_letters import MAX_KEPT_BYTES
from contract.wire.events import encode
from contract.wire.topics import USER_DELETIONS, VIDEO_UPLOADS, WATCH_EVENTS
from nextwatch.operate.letters import Choice, letter_of, place_of, topic_called, verdict
from tests.operate.letters_on_file import GOOD, letter, lying
from tests.support.builders import T0, deletion, watch


def today(given, *, now_ms=T0):
    """Return the reason for which *given* would be refused now, or `passes`."""
    error = verdict(given, now_ms=now_ms)
    return "passes" if error is None else error.reason


def test_it_is_known_by_where_it_lies_and_where_it_came_from():
    found = letter(b"{", reason="json", at_ms=5, headers=(("trace", b"7"),))

    assert (found.place, found.source_place) == ("watch-events.dlq:2:7", "watch-events:1:40")
    assert (found.reason, found.app, found.refused_at_ms) == ("json", "test", T0 + 5)
    assert found.own_headers == [("trace", b"7")]


def test_the_last_of_two_headers_counts():
    """A sender's forgery stands before what the process appended."""
    assert letter(headers=(("dlq.reason", b"forged"),)).reason == "json"


def test_a_foreign_record_on_a_dead_letter_topic_is_shown():
    """Headers that are missing or nonsense take nothing else away."""
    headers = (("dlq.offset", b"-3"), ("dlq.length", b"9" * 40), ("dlq.ts", None))
    found = letter_of(Received("watch-events.dlq", 0, 1, None, b"x", T0, headers))

    assert (found.reason, found.source, found.refused_at_ms) == ("unknown", None, T0)
    assert (found.is_cut, found.is_altered) == (False, False)


@pytest.mark.parametrize(
    ("told", "wanted"),
    [(b"1699999999999", T0 - 1), (None, T0 + 5), (b"-1", T0 + 5), (b"1800000000000", T0 + 5)],
)
def test_a_letter_bears_the_timestamp_of_its_record(told, wanted):
    """Of a letter without it, or with one to come, the time of the refusal is the bound."""
    lies = lying(at_ms=5)
    headers = tuple(h for h in lies.headers if h[0] != "dlq.record_ts")
    found = letter_of(
        Received(lies.topic, 0, 0, lies.key, lies.value, T0, (*headers, ("dlq.record_ts", told)))
    )

    assert found.ingested_at_ms == wanted


def test_cut_and_altered_letters_are_recognised():
    """Neither may be replayed: they are not what was refused."""
    whole = lying(b"abc")
    altered = Received(whole.topic, 0, 0, whole.key, b"abd", T0, whole.headers)

    assert letter(b"x" * (MAX_KEPT_BYTES + 1)).is_cut
    assert letter_of(altered).is_altered
    assert not letter_of(whole).is_altered


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (letter(GOOD), "passes"),
        (letter(b"{"), "json"),
        (letter(GOOD, key=b"somebody-else"), "key_mismatch"),
        (letter(None), "tombstone"),
        (letter(None, topic=VIDEO_UPLOADS, key=b"v1"), "passes"),
        (letter(None, topic=VIDEO_UPLOADS, key=b""), "key_missing"),
        (letter(encode(deletion()), topic=USER_DELETIONS), "passes"),
    ],
    ids=["good", "bad", "other key", "event tombstone", "takedown", "no key", "deletion"],
)
def test_the_contract_of_today_judges(given, wanted):
    assert today(given) == wanted


def test_an_event_of_the_future_passes_once_its_time_has_come():
    """A replay is a new record, judged by its own timestamp."""
    early = letter(encode(watch(at_ms=3_600_000)), reason="ts_future")

    assert (today(early), today(early, now_ms=T0 + 3_600_000)) == (
        "ts_future:event_time_ms",
        "passes",
    )


@pytest.mark.parametrize("reason", ["missing", "missing:user_id"])
def test_a_reason_is_chosen_by_its_word_with_or_without_its_detail(reason):
    assert Choice(reason=reason).selects(letter(reason="missing:user_id"))
    assert not Choice(reason=reason).selects(letter(reason="missing_brackets"))


def test_only_those_refused_since_are_taken():
    since = Choice(since_ms=T0 + 10)

    assert [since.selects(letter(at_ms=at_ms)) for at_ms in (9, 10)] == [False, True]


def test_a_letter_is_named_with_or_without_the_suffix_of_its_topic():
    assert place_of("watch-events:3:41") == (Position("watch-events.dlq", 3), 41)
    assert place_of("watch-events.dlq:3:41") == place_of("watch-events:3:41")
    assert topic_called("watch-events.dlq") is WATCH_EVENTS


@pytest.mark.parametrize(
    "text",
    [
        "watch-events",
        "watch-events:1",
        "watch-events:-1:2",
        "x:1:2",
        "watch-events:0:\u0663",
        f"watch-events:0:{2**63}",
        f"watch-events:0:{'9' * 5_000}",
    ],
)
def test_text_that_names_no_letter_is_rejected(text):
    with pytest.raises(ValueError, match=r"TOPIC:PARTITION:OFFSET|no dead letters are kept"):
        place_of(text)
