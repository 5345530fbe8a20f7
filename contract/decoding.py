"""From a record's bytes to an event, or to the one word that says why not.

Nothing from the wire is trusted: key, headers and size before parsing, encoding before JSON,
types and bounds by the struct, then what a struct cannot say (the key names the same user,
nobody watches more than the whole video). The first that is broken gives the reason; all
reasons are in `contract.dead_letters.REASONS`. The verdict depends on the record alone, so
that streams, trainer and index_sync agree and a replay judges as the first delivery did; the
clock is asked only for a record without a timestamp.
"""

from functools import cache
from typing import TypeVar, cast

import msgspec

from contract import json_syntax
from contract.clock import Clock
from contract.errors import DecodeError
from contract.events import (
    MAX_TIME_MS,
    MIN_TIME_MS,
    Event,
    Id,
    Impressions,
    RecommendationRequest,
    Search,
    UserDeletion,
    Watch,
    encode,
)
from contract.records import Headers
from contract.topics import Topic

MAX_KEY_BYTES = 256
MAX_HEADERS = 64
MAX_HEADER_BYTES = 16_384  # names and values of all headers of a record
MAX_SKEW_MS = 5 * 60_000
MAX_OVERRUN = 1.1  # players drift: up to 10 % over the duration is a whole watch
_NIL_UUID = "00000000-0000-0000-0000-000000000000"
_TIMES = ("_time_ms", "_at_ms", "_before_ms")
_MISSING = "Object missing required field"
_UNKNOWN_WORD = "Invalid enum value"
# a tuple: Watch | Search, made anew in each call, costs 0.4 µs
_WITH_EVENT_ID = (Watch, Search, Impressions, RecommendationRequest)

E = TypeVar("E", bound=Event)


def decode(
    topic: Topic, kind: type[E], key: bytes | None, value: bytes | None, headers: Headers = ()
) -> E:
    """Return the event in *value*, normalised.

    Raises:
        DecodeError: with the reason, for whatever breaks the contract of *topic*.
    """
    given_key = _checked_key(key)
    if headers:
        _check_headers(headers)
    if value is None:
        raise DecodeError("tombstone", "this topic carries no tombstones")
    event = _parse(kind, value, max_bytes=topic.max_value_bytes)
    if _text(given_key) != getattr(event, topic.key_field):
        raise DecodeError("key_mismatch", f"the key is not the value's {topic.key_field}")
    return _normalise(event)


def tombstone_id(key: bytes | None, headers: Headers = ()) -> str:
    """Return the id that a tombstone takes away, from its *key*, the one thing it bears.

    Raises:
        DecodeError: there is no key, or it is no id, or the headers are too large.
    """
    text = _text(_checked_key(key))
    _check_headers(headers)
    try:
        return msgspec.convert(text, Id)
    except msgspec.ValidationError:
        raise DecodeError("bad_id", "the key of a tombstone is no id") from None


def check_not_future(event: Event, *, ingested_at_ms: int, clock: Clock) -> None:
    """Refuse a user's event more than `MAX_SKEW_MS` after the record's own timestamp.

    Of a deletion, the time that it erases up to: a seal in the future would shut the user out.

    A record that has none, *ingested_at_ms* being -1, is judged by *clock*.

    Raises:
        DecodeError: ``ts_future``.
    """
    if isinstance(event, UserDeletion):
        time_ms = event.erase_before_ms
    elif isinstance(event, _WITH_EVENT_ID):
        time_ms = event.event_time_ms
    else:
        return
    ahead_ms = time_ms - (ingested_at_ms if ingested_at_ms > 0 else clock())
    if ahead_ms > MAX_SKEW_MS:
        raise DecodeError("ts_future", f"{ahead_ms} ms ahead of the record, at most {MAX_SKEW_MS}")


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


def _parse(kind: type[E], value: bytes, *, max_bytes: int) -> E:
    if not value:
        raise DecodeError("empty", "a record without a value")
    if len(value) > max_bytes:
        raise DecodeError("too_large", f"{len(value)} bytes, at most {max_bytes}")
    try:
        event = cast(E, _decoder(kind).decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        json_syntax.check_document(value)
        raise _refusal(str(error), value) from None
    json_syntax.check(value, encode(event) if _leaves_out_defaults(kind) else b"")
    return event


@cache
def _decoder(kind: type[Event]) -> msgspec.json.Decoder[Event]:
    return msgspec.json.Decoder(kind, strict=True)


def _leaves_out_defaults(kind: type[Event]) -> bool:
    return bool(kind.__struct_config__.omit_defaults)


def _refusal(message: str, value: bytes) -> DecodeError:
    """Return the error for a `msgspec.ValidationError`, from its message and the path in it."""
    if message.startswith(_UNKNOWN_WORD):  # first: this message alone quotes the payload
        return DecodeError("enum", "a word that is not one of those known")
    if message.startswith(_MISSING):
        return DecodeError("missing:" + message.split("`")[1], message)
    path = message.rpartition("`$")[2].rstrip("`") if "`$" in message else ""
    if path.endswith(_TIMES):
        return DecodeError(_time_reason(message, path, value), message)
    return DecodeError(_bound_reason(message, path), message)


def _bound_reason(message: str, path: str) -> str:
    if "matching regex" in message:
        return "bad_id" if path.endswith(("_id", "]")) else "pattern"
    if "length" in message:
        return "length"
    return "range" if _is_bound(message) else "type"


def _is_bound(message: str) -> bool:
    return "<=" in message or ">=" in message or "out of range" in message


def _time_reason(message: str, path: str, value: bytes) -> str:
    if not _is_bound(message):
        return "type"
    document = msgspec.json.decode(value)
    given = document.get(path.lstrip("."), 0) if isinstance(document, dict) else 0
    is_other_unit = isinstance(given, int) and (0 < given < MIN_TIME_MS or given > MAX_TIME_MS)
    return "ts_unit" if is_other_unit else "ts_range"


def _normalise(event: E) -> E:
    if isinstance(event, _WITH_EVENT_ID):
        if event.event_id == _NIL_UUID:
            raise DecodeError("bad_id", "the nil UUID names no event")
        if not event.event_id.islower():
            name = "request_id" if isinstance(event, RecommendationRequest) else "event_id"
            event = msgspec.structs.replace(event, **{name: event.event_id.lower()})
    if isinstance(event, Watch) and event.watch_ms > event.duration_ms:
        if event.watch_ms > event.duration_ms * MAX_OVERRUN:
            raise DecodeError("watch_gt_duration", f"{event.watch_ms} ms of {event.duration_ms} ms")
        event = msgspec.structs.replace(event, watch_ms=event.duration_ms)
    return event
