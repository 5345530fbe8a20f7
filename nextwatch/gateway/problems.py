"""Answer errors as problem+json (RFC 9457) that name the field and its bound.

What the sender wrote becomes part of no answer: the words are those of the contract.
"""

from http import HTTPStatus
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from contract.errors import DecodeError
from contract.wire.dead_letters import REASONS
from contract.wire.events import Event
from contract.wire.schemas import schemas_of

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
_TYPE = "urn:nextwatch:problem:"
_SYNTAX = frozenset({"empty", "encoding", "json", "depth", "duplicate_key"})
_CLOSED = {"Connection": "close"}
_BOUNDS = (
    *("type", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems", "enum", "description"),
)


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was not done; `field`, `reason` and `bound` where a field is to blame.

    `reason` is the word that the dead letters of the same event would bear, `bound` what the
    contract says of the field, in JSON Schema.
    """

    type: Annotated[str, Meta(description=f"{_TYPE}WORD, the same for the same kind of problem")]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    field: str | None = None
    reason: str | None = None
    bound: dict[str, Any] | None = None


class Problem(Exception):  # noqa: N818 - the name of RFC 9457
    """A request that is answered with *details*."""

    def __init__(self, details: ProblemDetails, headers: dict[str, str] | None = None) -> None:
        super().__init__(details.detail)
        self.details = details
        self.headers = headers or {}

    def response(self) -> Response:
        """Return the answer."""
        body = msgspec.json.encode(self.details)
        headers = {**self.headers, "X-Content-Type-Options": "nosniff"}
        return Response(body, self.details.status, headers, media_type=MEDIA_TYPE)


def problem(
    status: HTTPStatus, word: str, detail: str, *, headers: dict[str, str] | None = None
) -> Problem:
    """Return a problem of the kind *word* that no field is to blame for."""
    details = ProblemDetails(
        type=_TYPE + word, title=status.phrase, status=int(status), detail=detail
    )
    return Problem(details, headers)


def unavailable(word: str, detail: str) -> Problem:
    """Return the problem of a part that does not answer now, with a time to try again."""
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, word, detail, headers=headers)


def too_large(most: int) -> Problem:
    """Return the problem of a body with more than *most* bytes; the connection is closed."""
    details = ProblemDetails(
        type=_TYPE + "too_large",
        title=HTTPStatus.REQUEST_ENTITY_TOO_LARGE.phrase,
        status=int(HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        detail=f"the body has more than {most:,} bytes",
        reason="too_large",
        bound={"maximum": most, "description": "bytes of the body"},
    )
    return Problem(details, _CLOSED)


def too_slow(within_s: float) -> Problem:
    """Return the problem of a body that did not come in time; the connection is closed."""
    detail = f"the body did not come within {within_s:g} s"
    return problem(HTTPStatus.REQUEST_TIMEOUT, "too_slow", detail, headers=_CLOSED)


def cut_off() -> Problem:
    """Return the problem of a body whose sender has gone; it is counted, and nobody reads it."""
    detail = "the connection ended before the body did"
    return problem(HTTPStatus.BAD_REQUEST, "cut_off", detail, headers=_CLOSED)


def of_decoding(error: DecodeError, kind: type[Event]) -> Problem:
    """Return the problem of an event of *kind* that breaks the contract."""
    word, _, field = error.reason.partition(":")
    is_syntax = word in _SYNTAX
    status = HTTPStatus.BAD_REQUEST if is_syntax else HTTPStatus.UNPROCESSABLE_ENTITY
    return _of_field(status, word, field, error.detail, bound_of(kind, field) if field else None)


def of_field(word: str, field: str, detail: str, bound: dict[str, Any]) -> Problem:
    """Return the problem of a parameter that is out of its *bound*."""
    return _of_field(HTTPStatus.UNPROCESSABLE_ENTITY, word, field, detail, bound)


def bound_of(kind: type[Event], path: str) -> dict[str, Any] | None:
    """Return what the contract says of the field at *path* of *kind*, None if it has none."""
    schemas = schemas_of([kind])
    schema: dict[str, Any] = schemas[kind.__name__]
    for name in path.split("."):
        found = _resolved(schema, schemas).get("properties", {}).get(name)
        if found is None:
            return None
        schema = found
    resolved = _resolved(schema, schemas)
    return {name: resolved[name] for name in _BOUNDS if name in resolved} or None


async def answer_problem(_request: Request, error: Exception) -> Response:
    """Return the answer to a request that raised a `Problem`."""
    return cast("Problem", error).response()


async def answer_http_error(_request: Request, error: Exception) -> Response:
    """Return the answer to an error of routing: no such path, or no such method."""
    raised = cast("HTTPException", error)
    status = HTTPStatus(raised.status_code)
    word = status.name.lower()
    detail = f"{status.description or status.phrase}; /openapi.json has all paths and methods"
    return problem(status, word, detail, headers=dict(raised.headers or {})).response()


async def answer_failure(_request: Request, _error: Exception) -> Response:
    """Return the answer where something went wrong that nobody foresaw; the log has it."""
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return problem(status, "failed", "the log of the gateway has the reason").response()


def _of_field(
    status: HTTPStatus, word: str, field: str, detail: str, bound: dict[str, Any] | None
) -> Problem:
    meaning = REASONS.get(word, "")
    details = ProblemDetails(
        type=_TYPE + word,
        title=meaning or status.phrase,
        status=int(status),
        detail=f"{field}: {detail}" if field else detail,
        field=field or None,
        reason=word,
        bound=bound,
    )
    return Problem(details)


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """Return *schema* without references, without the null it may be, and inside a list."""
    if reference := schema.get("$ref"):
        return _resolved(schemas[reference.rpartition("/")[2]], schemas)
    if choices := [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]:
        return _resolved(choices[0], schemas)
    items = schema.get("items")
    if isinstance(items, dict) and "$ref" in items:
        return _resolved(items, schemas) | {
            name: schema[name] for name in ("minItems", "maxItems") if name in schema
        }
    return schema
