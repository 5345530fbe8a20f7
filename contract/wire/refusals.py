"""Turn msgspec's validation errors into reasons that name the field.

The words before the colon are those of `contract.wire.dead_letters.REASONS`. What the sender wrote
becomes part of neither reason nor detail, and no detail quotes a pattern.
"""

import re
from typing import Any

from contract.errors import DecodeError
from contract.wire.events import MAX_TIME_MS, MIN_TIME_MS
from contract.wire.identifiers import ID_RULE

_TIMES = ("_time_ms", "_at_ms", "_before_ms")
_IDS = ("_id", "_ids", "caused_by")
_MISSING = "Object missing required field"
_UNKNOWN_WORD = "Invalid enum value"
_PATH = re.compile(r" - at `\$([^`]*)`$")
_ELEMENT = re.compile(r"\[[^\]]*\]")


def refusal(message: str, document: Any) -> DecodeError:
    """Return the error for a `msgspec.ValidationError` on *document*, from its message."""
    found = _PATH.search(message)
    path = _ELEMENT.sub("", found[1]).lstrip(".") if found else ""
    said = message[: found.start()] if found else message
    if said.startswith(_UNKNOWN_WORD):  # first: this message alone quotes the payload
        return _error("enum", path, "not one of the words known")
    if said.startswith(_MISSING):
        inner = said.split("`")[1]
        return _error("missing", f"{path}.{inner}".lstrip("."), "a required field is missing")
    if path.endswith(_TIMES) and _is_bound(said):
        return _time_error(path, document)
    if "regex" in said or "length" in said:
        return _text_error(said, path)
    return _error("range" if _is_bound(said) else "type", path, said)


def bad_id(path: str) -> DecodeError:
    """Return the error for a text at *path* that is not an id."""
    return _error("bad_id", path, f"an id is {ID_RULE}")


def _error(word: str, path: str, detail: str) -> DecodeError:
    return DecodeError(f"{word}:{path}" if path else word, detail)


def _text_error(said: str, path: str) -> DecodeError:
    if path.endswith(_IDS):
        return bad_id(path)
    if "regex" in said:
        return _error("pattern", path, "not in the form that the contract describes")
    return _error("length", path, said)


def _is_bound(message: str) -> bool:
    return "<=" in message or ">=" in message or "out of range" in message


def _time_error(path: str, document: Any) -> DecodeError:
    given = document.get(path, 0) if isinstance(document, dict) else 0
    if isinstance(given, int | float) and (0 < given < MIN_TIME_MS or given > MAX_TIME_MS):
        return _error("ts_unit", path, "times are milliseconds since 1970")
    return _error("ts_range", path, "a time of zero or below")
