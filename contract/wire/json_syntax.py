"""Check JSON more strictly than msgspec: reject what two parsers could read differently.

msgspec checks the syntax of the fields it knows and leaps over the others, so in those a byte
that is not UTF-8 stays unseen, and of two equal keys the last counts, where another reader takes
the first. Here a document has one meaning or none: UTF-8, no half of a surrogate pair, no number
beyond a double or of more than 4,300 digits, at most `MAX_DEPTH` levels, every key once; in
unknown fields, too.

A full check costs as much as decoding. Nearly every document is spared it by counting: a colon
ends each key, so a document with as many colons as what was understood of it has no further key.
Figures: docs/experiments.md, "Checking JSON by counting colons".
"""

import codecs
import json
import re
from typing import Any, NoReturn

import msgspec

from contract.errors import DecodeError

MAX_DEPTH = 32
"""How many objects and arrays may stand in one another, the outermost included."""

_BACKSLASH = ord("\\")
_BLANKS = " \t\r\n"
_OPENING = ("{", "[")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_encode = msgspec.json.Encoder().encode


def check(value: bytes, understood: bytes) -> None:
    """Reject *value* if it is ambiguous; *understood* is its event, encoded without defaults.

    Without escapes the strings of both are equal, colons included, and what is understood
    was given: equal counts leave no colon for an unknown field or for a key given twice.

    Raises:
        DecodeError: as `check_document`.
    """
    if _BACKSLASH in value or not _has_same_colons(value, understood):
        check_document(value)


def check_document(value: bytes) -> None:
    """Reject *value* unless it is one JSON document with one meaning.

    Raises:
        DecodeError: ``encoding``, ``depth``, ``json``, ``range`` or ``duplicate_key``, the
            first of these that applies.
    """
    text = _text(value)
    _check_depth(value)
    try:
        understood = _encode(msgspec.json.decode(value))
    except msgspec.ValidationError:
        raise DecodeError("range", "a number that most readers cannot hold") from None
    except msgspec.DecodeError:
        raise DecodeError(_syntax_reason(text), "not a JSON document") from None
    if _BACKSLASH in value or not _has_same_colons(value, understood):
        _READER.decode(text)


def _has_same_colons(value: bytes, understood: bytes) -> bool:
    return value == understood or value.count(b":") == understood.count(b":")


def _text(value: bytes) -> str:
    if value.startswith(codecs.BOM_UTF8):
        raise DecodeError("encoding", "a byte order mark")
    encoding = json.detect_encoding(value)  # by its byte order mark, or by where zero bytes are
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise DecodeError(_reason_of_encoding(value, encoding), "not UTF-8") from None
    if encoding != "utf-8":
        raise DecodeError(_reason_of_encoding(value, encoding), f"{encoding}, by its zero bytes")
    return text


def _reason_of_encoding(value: bytes, encoding: str) -> str:
    """Tell a document in another encoding from bytes that are none in any."""
    start = value.decode(encoding, errors="replace").lstrip(_BLANKS)[:1]
    return "encoding" if start in _OPENING else "json"


def _check_depth(value: bytes) -> None:
    if value.count(b"[") + value.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", value)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise DecodeError("depth", f"more than {MAX_DEPTH} levels")


def _syntax_reason(text: str) -> str:
    """Tell half a surrogate pair, which the standard library lets by, from broken syntax."""
    try:
        _READER.decode(text)
    except ValueError:
        return "json"
    return "encoding"


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise DecodeError("duplicate_key", "a key is given twice")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_READER = json.JSONDecoder(
    object_pairs_hook=_distinct,
    parse_int=float,  # int refuses more than 4,300 digits with an error of its own
    parse_constant=_refuse_constant,
)
