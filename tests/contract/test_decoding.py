"""From bytes to an event, or to the one word that says why not."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.clock import ManualClock
from contract.decoding import MAX_SKEW_MS, check_not_future, decode, tombstone_id
from contract.errors import DecodeError
from contract.events import Search, Watch, encode
from contract.topics import SEARCH_EVENTS, WATCH_EVENTS
from tests.builders import T0, deletion, search, watch

GOOD = json.loads(encode(watch()))


def reason(value, key=b"u1"):
    """Return the word that *value* is refused with."""
    given_bytes = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    with pytest.raises(DecodeError) as refused:
        decode(WATCH_EVENTS, Watch, key, given_bytes)
    return refused.value.reason


def test_what_is_encoded_decodes_to_the_same_event():
    """The wire format loses nothing."""
    event = watch()

    assert decode(WATCH_EVENTS, Watch, b"u1", encode(event)) == event


@pytest.mark.parametrize("field", ["event_id", "user_id", "video_id", "watch_ms", "duration_ms"])
def test_a_missing_field_is_named(field):
    """The dead letter says which field the producer forgot."""
    without = {name: value for name, value in GOOD.items() if name != field}

    assert reason(without) == f"missing:{field}"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"user_id": "a b"}, "bad_id"),
        ({"user_id": "u1\n"}, "bad_id"),
        ({"user_id": ""}, "bad_id"),
        ({"user_id": "x" * 65}, "bad_id"),
        ({"user_id": "usér"}, "bad_id"),
        ({"video_id": "<script>"}, "bad_id"),
        ({"video_id": "../../etc/passwd"}, "bad_id"),
        ({"event_id": "1"}, "bad_id"),
        ({"event_id": "00000000-0000-0000-0000-000000000000"}, "bad_id"),
        ({"user_id": 7}, "type"),
        ({"watch_ms": None}, "type"),
        ({"watch_ms": 1.0}, "type"),
        ({"watch_ms": True}, "type"),
        ({"watch_ms": "1"}, "type"),
        ({"watch_ms": -1}, "range"),
        ({"watch_ms": 2**63}, "range"),
        ({"duration_ms": 0}, "range"),
        ({"duration_ms": 90_000_000}, "range"),
        ({"watch_ms": 60_000}, "watch_gt_duration"),
        ({"event_time_ms": 1_700_000_000}, "ts_unit"),
        ({"event_time_ms": 1_700_000_000_000_000}, "ts_unit"),
        ({"event_time_ms": 0}, "ts_range"),
        ({"event_time_ms": -5}, "ts_range"),
        ({"event_time_ms": "2026-01-01T00:00:00Z"}, "type"),
        ({"context": {"country": "Atlantis"}}, "pattern"),
    ],
)
def test_a_broken_bound_has_its_word(change, word):
    """Every bound is checked, and each has a stable reason."""
    assert reason(GOOD | change) == word


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (None, "tombstone"),
        (b"", "empty"),
        (b"{", "json"),
        (b'{"a":1,}', "json"),
        (b"NaN", "json"),
        (b"{}x", "json"),
        (b"[]", "type"),
        (b"[" * 100_000, "too_large"),
        (b"\x80\x04\x95cos\nsystem\n", "json"),
        (b"\xef\xbb\xbf{}", "encoding"),
        ("{}".encode("utf-16-le"), "encoding"),
        (b"\x00" * 1024, "json"),
    ],
)
def test_bytes_that_are_no_event_have_their_word(value, word):
    """Framing, encoding and syntax are told apart."""
    assert reason(value) == word


@pytest.mark.parametrize(
    ("key", "word"),
    [
        (None, "key_missing"),
        (b"", "key_missing"),
        (b"u2", "key_mismatch"),
        (b'"u1"', "key_mismatch"),
        (b"\xff", "key_encoding"),
        (b"u" * 1_000_000, "key_too_long"),
    ],
)
def test_the_key_must_name_the_user(key, word):
    """Another key would put one user's events on two partitions."""
    assert reason(GOOD, key) == word


def test_a_value_of_the_greatest_size_is_accepted_and_one_byte_more_is_not():
    """The bound itself is inside."""
    padded = encode(watch())[:-1] + b',"x":"'
    filler = WATCH_EVENTS.max_value_bytes - len(padded) - 2

    assert decode(WATCH_EVENTS, Watch, b"u1", padded + b"a" * filler + b'"}')
    assert reason(padded + b"a" * (filler + 1) + b'"}') == "too_large"


def test_a_player_that_drifts_is_forgiven_up_to_ten_percent():
    """Slightly more than the whole video is the whole video."""
    value = json.dumps(GOOD | {"watch_ms": 33_000, "duration_ms": 30_000}).encode()

    assert decode(WATCH_EVENTS, Watch, b"u1", value).watch_ms == 30_000


def test_upper_case_event_ids_are_the_same_event():
    """A repeat is recognised whatever the case of its id."""
    value = json.dumps(GOOD | {"event_id": GOOD["event_id"].upper()}).encode()

    assert decode(WATCH_EVENTS, Watch, b"u1", value) == watch()


def test_unknown_fields_are_ignored():
    """A newer producer does not break an older reader."""
    value = json.dumps(GOOD | {"__proto__": {}, "v": 9}).encode()

    assert decode(WATCH_EVENTS, Watch, b"u1", value) == watch()


def test_the_future_begins_after_the_allowed_skew():
    """Judged by the record's own timestamp, so that a replay judges the same."""
    long_after = ManualClock(T0 + 10**9)
    check_not_future(watch(at_ms=MAX_SKEW_MS), ingested_at_ms=T0, clock=long_after)

    with pytest.raises(DecodeError, match="ts_future"):
        check_not_future(watch(at_ms=MAX_SKEW_MS + 1), ingested_at_ms=T0, clock=long_after)


def test_a_record_without_a_timestamp_is_judged_by_the_clock():
    """A producer may send none; its events are not all in the future of the epoch."""
    check_not_future(watch(at_ms=MAX_SKEW_MS), ingested_at_ms=-1, clock=ManualClock(T0))

    with pytest.raises(DecodeError, match="ts_future"):
        check_not_future(watch(at_ms=MAX_SKEW_MS + 1), ingested_at_ms=-1, clock=ManualClock(T0))


def test_a_tombstone_names_what_it_takes_away():
    """Its key is all that it bears."""
    assert tombstone_id(b"v1") == "v1"


@pytest.mark.parametrize(
    ("key", "word"),
    [
        (None, "key_missing"),
        (b"", "key_missing"),
        (b"\xff", "key_encoding"),
        (b"a b", "bad_id"),
        (b"v" * 65, "bad_id"),
        (b"v" * 1_000_000, "key_too_long"),
    ],
)
def test_a_tombstone_under_no_proper_key_is_refused(key, word):
    """It could take nothing away, whoever reads it."""
    with pytest.raises(DecodeError) as refused:
        tombstone_id(key)
    assert refused.value.reason == word


@given(st.binary(max_size=400))
def test_no_bytes_raise_anything_but_a_decode_error(value):
    """Whatever comes, the stream goes on."""
    with pytest.raises(DecodeError):
        decode(SEARCH_EVENTS, Search, b"u1", value)


@given(st.data())
def test_a_mutated_event_is_an_event_or_a_decode_error(data):
    """One changed byte anywhere never raises anything else, nor breaks a bound unseen."""
    value = bytearray(encode(search()))
    value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))

    try:
        event = decode(SEARCH_EVENTS, Search, b"u1", bytes(value))
    except DecodeError:
        return
    assert msgspec.json.decode(encode(event), type=Search) == event


def test_an_erasure_of_the_future_is_refused():
    """It would shut the user out until then."""
    check_not_future(deletion(at_ms=MAX_SKEW_MS), ingested_at_ms=T0, clock=ManualClock(T0))

    with pytest.raises(DecodeError, match="ts_future"):
        check_not_future(deletion(at_ms=MAX_SKEW_MS + 1), ingested_at_ms=T0, clock=ManualClock(T0))
