"""From bytes to an event, or to the one word that says why not."""

import json
import struct
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import DecodeError
from contract.process.clock import ManualClock
from contract.wire.decoding import MAX_SKEW_MS, check_not_future, decode, tombstone_id
from contract.wire.events import (
    MAX_AHEAD_MS,
    Context,
    Impressions,
    ItemVector,
    RankingLog,
    Search,
    Watch,
    encode,
)
from contract.wire.topics import (
    IMPRESSIONS,
    ITEM_VECTORS,
    RANKING_LOG,
    SEARCH_EVENTS,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
)
from tests.support.builders import T0, asking, deletion, item_vector, search, shown, upload, watch

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


@pytest.mark.parametrize("field", ["event_id", "user_id", "video_id", "watch_ms"])
def test_a_missing_field_is_named(field):
    """The dead letter says which field the producer forgot."""
    without = {name: value for name, value in GOOD.items() if name != field}

    assert reason(without) == f"missing:{field}"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"user_id": " "}, "bad_id:user_id"),
        ({"user_id": "u1\n"}, "bad_id:user_id"),
        ({"user_id": ""}, "bad_id:user_id"),
        ({"user_id": "x" * 129}, "bad_id:user_id"),
        ({"video_id": "v\u202e1"}, "bad_id:video_id"),
        ({"video_id": "é" * 65}, "bad_id:video_id"),
        ({"event_id": "e\t"}, "bad_id:event_id"),
        ({"event_id": "00000000-0000-0000-0000-000000000000"}, "bad_id:event_id"),
        ({"user_id": 7}, "type:user_id"),
        ({"watch_ms": None}, "type:watch_ms"),
        ({"watch_ms": True}, "type:watch_ms"),
        ({"watch_ms": "1"}, "type:watch_ms"),
        ({"watch_ms": -1}, "range:watch_ms"),
        ({"watch_ms": -0.6}, "range:watch_ms"),
        ({"watch_ms": 2**63}, "range:watch_ms"),
        ({"duration_ms": -1}, "range:duration_ms"),
        ({"duration_ms": 90_000_000}, "range:duration_ms"),
        ({"duration_ms": "30000"}, "type:duration_ms"),
        ({"event_time_ms": 1_700_000_000}, "ts_unit:event_time_ms"),
        ({"event_time_ms": 1_700_000_000.5}, "ts_unit:event_time_ms"),
        ({"event_time_ms": 1_700_000_000_000_000}, "ts_unit:event_time_ms"),
        ({"event_time_ms": 0}, "ts_range:event_time_ms"),
        ({"event_time_ms": -5}, "ts_range:event_time_ms"),
        ({"event_time_ms": "2026-01-01T00:00:00Z"}, "type:event_time_ms"),
    ],
)
def test_each_broken_bound_has_its_reason(change, word):
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
def test_bytes_that_are_not_an_event_have_their_reason(value, word):
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


def taken(topic=WATCH_EVENTS, key=b"u1", /, *, without=(), good=None, **change):
    """Return the event of a good one with a *change*, and what was mended in it."""
    given = {name: one for name, one in (good or GOOD).items() if name not in without} | change
    notes = Counter()
    event = decode(topic, topic.kind, key, json.dumps(given).encode(), (), notes)
    return event, dict(notes)


def test_a_loop_is_a_watch_of_the_whole_video():
    """Players add up the rounds; whoever watched three of them has watched it all."""
    assert taken(watch_ms=90_000) == (watch(watch_ms=30_000), {"clipped:watch_ms": 1})


@pytest.mark.parametrize(
    "unknown", [{"without": ["duration_ms"]}, {"duration_ms": None}, {"duration_ms": 0}]
)
def test_a_live_stream_has_no_duration(unknown):
    """Absent, null and 0 say the same; the watch time stays as it is."""
    event, mended = taken(**unknown, watch_ms=7_200_000)

    assert (event.duration_ms, event.watch_ms, mended) == (0, 7_200_000, {})


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"watch_ms": 1.0}, {"watch_ms": 1}),
        ({"watch_ms": 1234.5}, {"watch_ms": 1235}),
        ({"event_time_ms": T0 + 0.25}, {"event_time_ms": T0}),
        ({"duration_ms": 3e4}, {"duration_ms": 30_000}),
    ],
)
def test_fractions_of_whole_numbers_are_rounded(change, same):
    """A player's clock may count parts of a millisecond."""
    (event, mended), (rounded, nothing) = taken(**change), taken(**same)

    assert event == rounded
    assert (mended, nothing) == ({f"rounded:{name}": 1 for name in change}, {})


@pytest.mark.parametrize(
    ("context", "kept", "mended"),
    [
        (None, Context(), {}),
        ("DE", Context(), {"dropped:context": 1}),
        ({"country": "de", "device": "tv"}, Context(device="tv"), {"dropped:context.country": 1}),
        ({"country": None, "language": "en\n"}, Context(), {"dropped:context.language": 1}),
    ],
)
def test_an_unreadable_part_of_the_context_costs_that_part_alone(context, kept, mended):
    """The watch is what matters; what is left out is counted."""
    event, notes = taken(context=context)

    assert (event.context, notes) == (kept, mended)


@pytest.mark.parametrize(
    ("change", "kept", "mended"),
    [
        ({"title": None, "tags": None, "category": None}, {"title": "", "tags": [], "category": None}, {}),
        ({"title": "t" * 300}, {"title": "t" * 256}, {"cut:title": 1}),
        ({"tags": [str(n) for n in range(40)]}, {"tags": [str(n) for n in range(32)]}, {"cut:tags": 1}),
        ({"tags": ["a", None, "x" * 65, ""]}, {"tags": ["a"]}, {"dropped:tags": 1}),
        ({"channel_id": "\n"}, {"channel_id": None}, {"dropped:channel_id": 1}),
        ({"channel_id": "é" * 65}, {"channel_id": None}, {"dropped:channel_id": 1}),
    ],
)  # fmt: skip
def test_an_upload_is_accepted_without_its_unreadable_optional_fields(change, kept, mended):
    """A video whose title is too long can be watched all the same."""
    good = json.loads(encode(upload()))

    event, notes = taken(VIDEO_UPLOADS, b"v1", good=good, **change)

    assert {name: getattr(event, name) for name in kept} == kept
    assert notes == mended


def test_what_our_own_processes_write_is_read_strictly():
    """An announcement that is half readable is a bug, not a slip of somebody's producer."""
    value = json.loads(encode(item_vector())) | {"features": None}

    with pytest.raises(DecodeError, match="type:features"):
        decode(ITEM_VECTORS, ItemVector, b"v1", json.dumps(value).encode())


@pytest.mark.parametrize("path", ["videos.video_id", "videos.position"])
def test_a_field_inside_a_list_is_named_by_its_path(path):
    """Without its place in the list, so that there are few reasons."""
    inner = {"video_id": "v1", "position": 0} | {path.partition(".")[2]: [7]}
    given = {"event_id": "e1", "user_id": "u1", "event_time_ms": T0, "videos": [inner]}

    with pytest.raises(DecodeError, match=f"type:{path}"):
        decode(IMPRESSIONS, Impressions, b"u1", json.dumps(given).encode())


@given(st.sampled_from(sorted(GOOD)), st.one_of(st.text(), st.integers(), st.floats(), st.none()))
def test_no_detail_quotes_a_pattern_or_the_payload(field, value):
    """People read it: in the log, in `nextwatch dlq show`, in an error of the command line."""
    try:
        decode(WATCH_EVENTS, Watch, b"u1", json.dumps(GOOD | {field: value}).encode())
    except DecodeError as error:
        assert "[" not in error.detail  # noqa: PT017 - nothing is raised for what is accepted


@pytest.mark.parametrize(
    "event_id", [GOOD["event_id"].upper(), "01JDGXV3T4Q8Z6W5N2M7K9P0RS", "evt_42", "ф/7"]
)
def test_an_event_id_stays_as_its_producer_wrote_it(event_id):
    """Answers name it in `caused_by`, and the producer has to find it there."""
    event, mended = taken(event_id=event_id)

    assert (event.event_id, mended) == (event_id, {})


NIL = "00000000-0000-0000-0000-000000000000"


def test_the_nil_uuid_names_no_event_and_is_an_id_like_any_other_elsewhere():
    """Ids of users and videos are opaque; one that many share is theirs to avoid."""
    assert reason(GOOD | {"event_id": NIL}) == "bad_id:event_id"

    everywhere_else = json.dumps(GOOD | {"user_id": NIL, "video_id": NIL}).encode()
    event = decode(WATCH_EVENTS, Watch, NIL.encode(), everywhere_else)
    assert (event.user_id, event.video_id) == (NIL, NIL)


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


def test_an_event_is_in_the_future_an_hour_after_the_readers_clock():
    """The producer that dates an event wrongly often dates its record likewise."""
    day_ms = 86_400_000
    ahead = {"ingested_at_ms": T0 + 400 * day_ms, "clock": ManualClock(T0)}
    check_not_future(watch(at_ms=MAX_AHEAD_MS), **ahead)

    for event in (
        watch(at_ms=MAX_AHEAD_MS + 1),
        watch(at_ms=400 * day_ms),
        search(at_ms=400 * day_ms),
        shown("v1", at_ms=400 * day_ms),
        asking(at_ms=400 * day_ms),
        deletion(at_ms=400 * day_ms),
    ):
        with pytest.raises(DecodeError, match="ts_future"):
            check_not_future(event, **ahead)


def test_a_replay_is_never_judged_more_strictly():
    """What was accepted once is older the next time."""
    event = watch(at_ms=MAX_AHEAD_MS)
    for later_ms in (0, 1, 10**9):
        clock = ManualClock(T0 + later_ms)
        check_not_future(event, ingested_at_ms=T0 + MAX_AHEAD_MS, clock=clock)


def test_a_tombstone_names_the_id_that_it_removes():
    """Its key is all that it bears."""
    assert tombstone_id(b"v1") == "v1"


@pytest.mark.parametrize(
    ("key", "word"),
    [
        (None, "key_missing"),
        (b"", "key_missing"),
        (b"\xff", "key_encoding"),
        (b" ", "bad_id"),
        (b"v\n", "bad_id"),
        (b"v" * 129, "bad_id"),
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


FLOATS = {
    "context": "AACAPwAAAEA=",
    "user_vector": "AACAPw==",
    "candidates": "AACAPwAAAEAAAEBAAACAQA==",
}


def logged(**change):
    """Return the ranking log of two videos, decoded from JSON with *change*."""
    good = {
        "recommendation_id": "0f8e3f0a-6d0b-4f5e-9d6c-2f4b8f1f7a11",
        "user_id": "u1",
        "generated_at_ms": T0,
        "bundle_id": "b1",
        "generation": 3,
        "feature_version": 1,
        "video_ids": ["v1", "v2"],
        **FLOATS,
    }
    return decode(RANKING_LOG, RankingLog, b"u1", json.dumps({**good, **change}).encode())


def test_the_features_of_a_ranking_log_are_little_endian_floats():
    log = logged()

    assert struct.unpack("<2f", log.context) == (1.0, 2.0)
    assert struct.unpack("<4f", log.candidates) == (1.0, 2.0, 3.0, 4.0)
    assert encode(log) == encode(decode(RANKING_LOG, RankingLog, b"u1", encode(log)))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"video_ids": ["v1", "v2", "v3"]}, "length"),
        ({"video_ids": []}, "length"),
        ({"context": "AACA"}, "length"),
        ({"user_vector": "AACA"}, "length"),
        ({"context": "AACAPw==" * 2}, "type:context"),
        ({"candidates": "A" * 180_000}, "length:candidates"),
        ({"video_ids": ["v1", "ü" * 100]}, "bad_id:video_ids"),
        ({"video_ids": ["v1", ""]}, "bad_id:video_ids"),
        ({"next_offsets": {"watch-events": -1}}, "range:next_offsets"),
    ],
)
def test_a_ranking_log_of_another_shape_than_its_videos_is_rejected(change, word):
    """Else a row would be taken for another video's."""
    with pytest.raises(DecodeError, match=f"^{word}: "):
        logged(**change)


def test_features_logged_in_the_future_are_rejected():
    """The joiner drops the oldest first, so these would push out everything that is true."""
    log = logged(generated_at_ms=T0 + MAX_AHEAD_MS + 1)

    with pytest.raises(DecodeError) as rejected:
        check_not_future(log, ingested_at_ms=log.generated_at_ms, clock=lambda: T0)
    assert rejected.value.reason == "ts_future:generated_at_ms"
