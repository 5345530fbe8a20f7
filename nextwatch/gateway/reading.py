"""Read what a request brings, within its bounds: body, ids in the path, parameters.

A `Problem` tells what is out of bounds. Nothing is read beyond what an event may have.
"""

import asyncio
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Match, Route
from starlette.types import Scope

from contract.kafka.outbox import Header
from contract.process import tracing
from contract.wire.decoding import is_id
from contract.wire.identifiers import ID_RULE, MAX_ID_BYTES, is_nil
from contract.wire.schemas import schema_of
from nextwatch.gateway.problems import cut_off, of_field, problem, too_large, too_slow

MEDIA_TYPE = "application/json"
_MOST_DISCARDED = 1_048_576
"""So much of a body that is too large is read all the same, so that its sender gets the answer."""
_CHARSETS = ("", "utf-8", "utf8")
_ID_BOUND = {"minLength": 1, "maxLength": MAX_ID_BYTES, "description": ID_RULE}


class EncodedRoute(Route):
    """A route whose parameters are percent-encoded, as the path was sent, for `path_id`.

    In the decoded path a slash within an id is one between ids, and ``%25`` is a percent sign that
    is decoded again with what follows: the id of another user.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether this route answers the request of *scope*."""
        raw_path: bytes = scope.get("raw_path") or b""
        path = raw_path.partition(b"?")[0].decode("latin-1")
        return super().matches({**scope, "path": path})


async def body_of(request: Request, *, most: int, within_s: float) -> bytes:
    """Return the JSON body of *request*, which has at most *most* bytes.

    Raises:
        Problem: it is not JSON by its headers, too large, or did not come whole *within_s*.
    """
    _check_media_type(request)
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > _MOST_DISCARDED:
        raise too_large(most)
    body, num_bytes = bytearray(), 0
    try:
        async with asyncio.timeout(within_s):
            async for chunk in request.stream():
                num_bytes += len(chunk)
                if num_bytes <= most:
                    body += chunk
                elif num_bytes > _MOST_DISCARDED:
                    break
    except TimeoutError:
        raise too_slow(within_s) from None
    except ClientDisconnect:
        raise cut_off() from None
    if num_bytes > most:
        raise too_large(most)
    return bytes(body)


async def client_gone(request: Request) -> None:
    """Return when the connection of *request* has ended; a body that comes is thrown away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def trace_headers(request: Request) -> list[Header]:
    """Return the headers by which an event belongs to the trace of *request*, none for no trace."""
    value = request.headers.get(tracing.HEADER, "").encode("latin-1")
    return [(tracing.HEADER, value)] if tracing.is_header(value) else []


def path_id(request: Request, name: str) -> str:
    """Return the id *name* in the path of an `EncodedRoute`, which is percent-encoded there.

    Raises:
        Problem: it is no id.
    """
    try:
        text = unquote_to_bytes(request.path_params[name]).decode()
    except UnicodeDecodeError:
        raise of_field("bad_id", name, "the path is not UTF-8", _ID_BOUND) from None
    if not is_id(text):
        raise of_field("bad_id", name, f"an id is {ID_RULE}", _ID_BOUND)
    return text


def event_id_of(request: Request) -> str | None:
    """Return the parameter ``event_id``, None if it is not given.

    Raises:
        Problem: it is no id of an event.
    """
    text = request.query_params.get("event_id")
    if text is not None and (not is_id(text) or is_nil(text)):
        raise of_field("bad_id", "event_id", f"an id is {ID_RULE}", _ID_BOUND)
    return text


def text_of(request: Request, name: str, kind: Any) -> str | None:
    """Return the parameter *name*, a text of *kind* of the contract; None if it is not given.

    Raises:
        Problem: it is out of the bounds of *kind*.
    """
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return str(msgspec.convert(text, kind))
    except msgspec.ValidationError as error:
        word = "pattern" if "regex" in str(error) else "length"
        bound = schema_of(kind)
        raise of_field(word, name, bound.get("description", str(error)), bound) from None


def number_of(request: Request, name: str, *, default: int, least: int, most: int | None) -> int:
    """Return the whole number *name*, *default* if it is not given; without *most* it is open.

    Raises:
        Problem: it is not a number of decimal digits, or out of bounds.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    bound: dict[str, object] = {"type": "integer", "minimum": least}
    bound |= {} if most is None else {"maximum": most}
    if not (text.isascii() and text.isdigit()):
        raise of_field("type", name, "not a whole number in decimal digits", bound)
    digits = text.lstrip("0") or "0"
    number = int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS
    if number < least or (most is not None and number > most):
        limits = f"{least} or more" if most is None else f"{least} to {most}"
        raise of_field("range", name, limits, bound)
    return number


def choice_of(request: Request, name: str, *, default: str, choices: tuple[str, ...]) -> str:
    """Return the parameter *name*, one of *choices*.

    Raises:
        Problem: it is none of them.
    """
    text = request.query_params.get(name, default)
    if text not in choices:
        raise of_field("enum", name, f"one of {', '.join(choices)}", {"enum": list(choices)})
    return text


_MOST_DIGITS = 18


def _check_media_type(request: Request) -> None:
    """Refuse what is not JSON: of all else a page of another site can make a browser send it."""
    media_type, *parameters = request.headers.get("content-type", "").lower().split(";")
    named = dict(parameter.strip().partition("=")[::2] for parameter in parameters)
    is_json = media_type.strip() == MEDIA_TYPE and named.get("charset", "").strip('"') in _CHARSETS
    if not is_json or request.headers.get("content-encoding", "identity") != "identity":
        raise problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "media_type",
            f"the body must be {MEDIA_TYPE} in UTF-8, without a content encoding",
            headers={"Accept": MEDIA_TYPE},
        )
