"""From a record's bytes to an event, or to the one word that says why not.

Nothing from the wire is trusted: size before parsing, encoding before JSON, types and
bounds by the struct, then what a struct cannot say (the key names the same user, nobody
watches more than the whole video). The verdict depends on the record alone, so that a replay
judges as the first delivery did; the clock is asked only for a record without a timestamp.
"""

from functools import cache
from typing import TypeVar, cast

import msgspec

from contract.clock import Clock
from contract.errors import DecodeError
from contract.events import (
    MAX_TIME_MS,
    MIN_TIME_MS,
    Event,
    Id,
    Impressions,
    Search,
    Watch,
)
from contract.topics import Topic

MAX_KEY_BYTES = 256
MAX_SKEW_MS = 5 * 60_000
MAX_OVERRUN = 1.1  # players drift: up to 10 % over the duration is a whole watch
_NIL_UUID = "00000000-0000-0000-0000-000000000000"
_BOM = b"\xef\xbb\xbf"

E = TypeVar("E", bound=Event)


def decode(topic: Topic, kind: type[E], key: bytes | None, value: bytes | None) -> E:
    """Return the event in *value*, normalised.

    Raises:
        DecodeError: with the reason, for whatever breaks the contract of *topic*.
    """
    given_key = _checked_key(key)
    if value is None:
        raise DecodeError("tombstone", "this topic carries no tombstones")
    event = _parse(kind, value, max_bytes=topic.max_value_bytes)
    if _text(given_key) != getattr(event, topic.key_field):
        raise DecodeError("key_mismatch", f"the key is not the value's {topic.key_field}")
    return _normalise(event)


def tombstone_id(key: bytes | None) -> str:
    """Return the id that a tombstone takes away, from its *key*, the one thing it bears.

    Raises:
        DecodeError: there is no key, or it is no id.
    """
    text = _text(_checked_key(key))
    try:
        return msgspec.convert(text, Id)
    except msgspec.ValidationError:
        raise DecodeError("bad_id", "the key of a tombstone is no id") from None


def check_not_future(event_time_ms: int, *, ingested_at_ms: int, clock: Clock) -> None:
    """Refuse an event time more than `MAX_SKEW_MS` after the record's own timestamp.

    A record that has none, *ingested_at_ms* being -1, is judged by *clock*.

    Raises:
        DecodeError: ``ts_future``.
    """
    ahead_ms = event_time_ms - (ingested_at_ms if ingested_at_ms > 0 else clock())
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


def _parse(kind: type[E], value: bytes, *, max_bytes: int) -> E:
    if not value:
        raise DecodeError("empty", "a record without a value")
    if len(value) > max_bytes:
        raise DecodeError("too_large", f"{len(value)} bytes, at most {max_bytes}")
    if value.startswith(_BOM):
        raise DecodeError("encoding", "a byte order mark")
    try:
        return cast(E, _decoder(kind).decode(value))
    except msgspec.ValidationError as error:
        raise DecodeError(_reason(str(error), value), str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(_syntax_reason(value), "not a JSON document") from error


@cache
def _decoder(kind: type[Event]) -> msgspec.json.Decoder[Event]:
    return msgspec.json.Decoder(kind, strict=True)


def _syntax_reason(value: bytes) -> str:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return "json" if value[:1] not in b"{[" else "encoding"
    is_utf16 = len(value) > 1 and (value[0] == 0) != (value[1] == 0)
    return "encoding" if is_utf16 else "json"


def _reason(message: str, value: bytes) -> str:
    """Return the word for a `msgspec.ValidationError`, from its message and the path in it."""
    try:
        value.decode("utf-8")
        msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return _syntax_reason(value)
    if "missing required field" in message:
        return "missing:" + message.split("`")[1]
    path = message.rpartition("`$")[2].rstrip("`") if "`$" in message else ""
    if "_time_ms" in path or "_at_ms" in path:
        return _time_reason(message, path, value)
    return _bound_reason(message, path)


def _bound_reason(message: str, path: str) -> str:
    if "matching regex" in message:
        return "bad_id" if path.endswith(("_id", "]")) else "pattern"
    if "length" in message:
        return "length"
    if "enum value" in message:
        return "enum"
    is_bound = "<=" in message or ">=" in message or "out of range" in message
    return "range" if is_bound else "type"


def _time_reason(message: str, path: str, value: bytes) -> str:
    if "<=" not in message and ">=" not in message:
        return "type"
    document = msgspec.json.decode(value)
    given = document.get(path.lstrip("."), 0) if isinstance(document, dict) else 0
    is_other_unit = isinstance(given, int) and (0 < given < MIN_TIME_MS or given > MAX_TIME_MS)
    return "ts_unit" if is_other_unit else "ts_range"


def _normalise(event: E) -> E:
    if isinstance(event, Watch | Search | Impressions):
        if event.event_id == _NIL_UUID:
            raise DecodeError("bad_id", "the nil UUID names no event")
        if not event.event_id.islower():
            event = msgspec.structs.replace(event, event_id=event.event_id.lower())
    if isinstance(event, Watch) and event.watch_ms > event.duration_ms:
        if event.watch_ms > event.duration_ms * MAX_OVERRUN:
            raise DecodeError("watch_gt_duration", f"{event.watch_ms} ms of {event.duration_ms} ms")
        event = msgspec.structs.replace(event, watch_ms=event.duration_ms)
    return event
