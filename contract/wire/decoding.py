"""Decode a record into an event, or reject it with a one-word reason.

Nothing from the wire is trusted: key, headers and size before parsing, encoding before JSON,
types and bounds by the struct, then what a struct cannot say (the key names the same user,
nobody watches more than the whole video). The first that is broken gives the reason; all
reasons are in `contract.wire.dead_letters.REASONS`. The verdict depends on the record alone, so
that streams, trainer and index_sync agree and a replay judges as the first delivery did. The
clock is asked only for what is dated later than now: a replay is older, so what was accepted once
is always accepted.

Events that come from outside are read strictly first, and by `contract.wire.mending` only if that
fails. What our own processes write is only read strictly.
"""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

from contract.errors import DecodeError
from contract.kafka.records import Headers, Received
from contract.process.clock import Clock
from contract.wire import json_syntax
from contract.wire.events import (
    MAX_AHEAD_MS,
    Event,
    Id,
    Impressions,
    RankingLog,
    RecommendationRequest,
    Search,
    UserDeletion,
    Watch,
    encode,
)
from contract.wire.identifiers import is_nil, is_too_long
from contract.wire.keys import MAX_KEY_BYTES
from contract.wire.mending import Notes, mended
from contract.wire.refusals import bad_id, refusal
from contract.wire.topics import Topic

MAX_HEADERS = 64
MAX_HEADER_BYTES = 16_384  # names and values of all headers of a record
MAX_SKEW_MS = 5 * 60_000
"""An event may be dated so long after its record, since the clocks of players are not exact."""
_BACKSLASH = ord("\\")
_LISTS_OF_IDS = ("caused_by", "video_ids")
# a tuple: Watch | Search, made anew in each call, costs 0.4 µs
_WITH_EVENT_ID = (Watch, Search, Impressions, RecommendationRequest)

E = TypeVar("E", bound=Event)


def decode(
    topic: Topic,
    kind: type[E],
    key: bytes | None,
    value: bytes | None,
    headers: Headers = (),
    notes: Notes | None = None,
) -> E:
    """Return the event in *value*, normalised; *notes* counts what was left out, cut or rounded.

    Raises:
        DecodeError: with the reason, for whatever breaks the contract of *topic*.
    """
    given_key = _checked_key(key)
    if headers:
        _check_headers(headers)
    if value is None:
        raise DecodeError("tombstone", "this topic carries no tombstones")
    noted: Notes = Counter() if notes is None else notes
    event = _parse(topic, kind, value, noted)
    if _text(given_key) != getattr(event, topic.key_field):
        raise DecodeError("key_mismatch", f"the key is not the value's {topic.key_field}")
    return _normalise(event, noted)


def decode_value(topic: Topic, kind: type[E], value: bytes, notes: Notes | None = None) -> E:
    """Return the event in *value* as `decode` does, for whoever is about to key and send it.

    Raises:
        DecodeError: with the reason, for whatever in it breaks the contract of *topic*.
    """
    noted: Notes = Counter() if notes is None else notes
    return _normalise(_parse(topic, kind, value, noted), noted)


def tombstone_id(key: bytes | None, headers: Headers = ()) -> str:
    """Return the id that a tombstone removes, from its *key*.

    Raises:
        DecodeError: there is no key, or it is no id, or the headers are too large.
    """
    text = _text(_checked_key(key))
    _check_headers(headers)
    if not is_id(text):
        raise DecodeError("bad_id", "the key of a tombstone is no id")
    return text


def is_id(text: str) -> bool:
    """Return whether *text* may be the id of a user, a video or a channel."""
    try:
        msgspec.convert(text, Id)
        return not is_too_long(text)
    except (msgspec.ValidationError, UnicodeEncodeError):  # half a surrogate pair is no text
        return False


def check_not_future(event: Event, *, ingested_at_ms: int, clock: Clock) -> None:
    """Reject a user's event that is dated in the future.

    That is more than `MAX_SKEW_MS` after the record's own timestamp, or more than `MAX_AHEAD_MS`
    after *clock*: the producer that dates an event wrongly often gives its record the same date.
    Of a deletion, the time that it erases up to: a seal in the future would shut the user out. Of a
    ranking log, the time of the recommendation: the joiner keeps the newest, so that those of the
    future would push out all that is true.

    A record without a timestamp, *ingested_at_ms* being -1, is judged by *clock* in its place.

    Raises:
        DecodeError: ``ts_future``.
    """
    if isinstance(event, UserDeletion):
        field, time_ms = "erase_before_ms", event.erase_before_ms
    elif isinstance(event, _WITH_EVENT_ID):
        field, time_ms = "event_time_ms", event.event_time_ms
    elif isinstance(event, RankingLog):
        field, time_ms = "generated_at_ms", event.generated_at_ms
    else:
        return
    now_ms = clock()
    ahead_ms = time_ms - (ingested_at_ms if ingested_at_ms > 0 else now_ms)
    if ahead_ms > MAX_SKEW_MS:
        raise DecodeError(
            f"ts_future:{field}", f"{ahead_ms} ms ahead of the record, at most {MAX_SKEW_MS}"
        )
    if time_ms - now_ms > MAX_AHEAD_MS:
        raise DecodeError(
            f"ts_future:{field}",
            f"{time_ms - now_ms} ms ahead of the clock, at most {MAX_AHEAD_MS}",
        )


def check_place(record: Received, event: Event | None = None) -> None:
    """Reject a record on a partition where its key does not belong (`contract.wire.keys`).

    Another partition has the rest of the user's events, or of the video's uploads and tombstones.
    An *event* that erases a user everywhere may lie on any partition.

    Raises:
        DecodeError: ``misplaced``.
    """
    home = record.home
    if home == record.partition or (isinstance(event, UserDeletion) and event.everywhere):
        return
    raise DecodeError(
        "misplaced", f"on partition {record.partition}, its key belongs to partition {home}"
    )


def _checked_key(key: bytes | None) -> bytes:
    if not key:
        raise DecodeError("key_missing", "every record is keyed")
    if len(key) > MAX_KEY_BYTES:
        raise DecodeError("key_too_long", f"{len(key)} bytes, at most {MAX_KEY_BYTES}")
    return key


def _text(key: bytes) -> str:
    try:
        return key.decode("utf-8")
    except UnicodeDecodeError:
        raise DecodeError("key_encoding", "the key is not UTF-8") from None


def _check_headers(headers: Headers) -> None:
    if len(headers) > MAX_HEADERS:
        raise DecodeError("headers_too_large", f"{len(headers)} headers, at most {MAX_HEADERS}")
    try:
        num_bytes = sum(len(name.encode()) + len(value or b"") for name, value in headers)
    except UnicodeEncodeError:
        raise DecodeError("header_encoding", "the name of a header is not UTF-8") from None
    if num_bytes > MAX_HEADER_BYTES:
        raise DecodeError("headers_too_large", f"{num_bytes} bytes, at most {MAX_HEADER_BYTES}")


def _parse(topic: Topic, kind: type[E], value: bytes, notes: Notes) -> E:
    if not value:
        raise DecodeError("empty", "a record without a value")
    if len(value) > topic.max_value_bytes:
        raise DecodeError("too_large", f"{len(value)} bytes, at most {topic.max_value_bytes}")
    try:
        event = cast(E, _decoder(kind).decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        json_syntax.check_document(value)
        document = msgspec.json.decode(value)
        if not topic.is_from_outside or not isinstance(document, dict):
            raise refusal(str(error), document) from None
        return _lenient(kind, document, notes)
    json_syntax.check(value, encode(event) if kind.__struct_config__.omit_defaults else b"")
    if value.isascii() and _BACKSLASH not in value:  # then no id has more bytes than characters
        return event
    too_long = next(_too_long_ids(event), "")
    if not too_long:
        return event
    if not topic.is_from_outside:
        raise bad_id(too_long)
    return _lenient(kind, msgspec.json.decode(value), notes)


def _lenient(kind: type[E], document: dict[str, Any], notes: Notes) -> E:
    """Return the event in *document* but for what it can do without."""
    try:
        event = msgspec.convert(mended(kind, document, notes), kind, strict=True)
    except msgspec.ValidationError as error:
        raise refusal(str(error), document) from None
    for path in _too_long_ids(event):
        raise bad_id(path)
    return event


@cache
def _decoder(kind: type[Event]) -> msgspec.json.Decoder[Event]:
    return msgspec.json.Decoder(kind, strict=True)


def _too_long_ids(event: msgspec.Struct, path: str = "") -> Iterator[str]:
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, str):
            if name.endswith("_id") and is_too_long(value):
                yield path + name
        elif isinstance(value, list):
            for one in value:
                if isinstance(one, msgspec.Struct):
                    yield from _too_long_ids(one, f"{path}{name}.")
                elif name in _LISTS_OF_IDS and is_too_long(one):
                    yield path + name


def _normalise(event: E, notes: Notes) -> E:
    if isinstance(event, _WITH_EVENT_ID) and is_nil(event.event_id):
        field = "request_id" if isinstance(event, RecommendationRequest) else "event_id"
        raise DecodeError(f"bad_id:{field}", "the nil UUID names no event")
    if isinstance(event, Watch) and event.watch_ms > event.duration_ms > 0:  # seen in loops
        notes["clipped:watch_ms"] += 1
        return msgspec.structs.replace(event, watch_ms=event.duration_ms)
    return event
