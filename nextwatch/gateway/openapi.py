"""Write the OpenAPI document of the gateway from its endpoints and the structs of the contract."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from contract.version import VERSION
from contract.wire.examples import payload_of
from contract.wire.schemas import REF, dedented, schemas_of
from contract.wire.topics import Topic
from nextwatch.gateway.endpoints import EVENT_STREAM, Alive, Endpoint, Parameter, Ready
from nextwatch.gateway.problems import MEDIA_TYPE, ProblemDetails
from nextwatch.gateway.reading import MEDIA_TYPE as JSON

_KEY = "api_key"
_RETRY_AFTER = {"Retry-After": "seconds until it is worth another try"}
_DESCRIPTION = """
Events in, recommendations out: a gateway to the Kafka topics that docs/asyncapi.yaml describes,
with the same events, bounds and words. Times are epoch milliseconds, durations milliseconds.

An event is acknowledged by Kafka before it is answered with 202. A repeated event_id with the same
body is answered alike and has one effect: history windows know each event by its id. After 503,
408 or a broken connection send the same event again.

Unknown fields are ignored. An optional field may be absent or null; an optional text, list or
object that cannot be read is left out, fractions are rounded, what is too long of a title or of
tags is cut, and `mended` says so.
"""


def document(
    given: Iterable[Endpoint], *, has_key: bool, title: str = "Nextwatch gateway"
) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the endpoints *given*."""
    endpoints = list(given)
    kinds: list[type[msgspec.Struct]] = [ProblemDetails]
    kinds += [each.topic.kind for each in endpoints if each.topic and each.topic.kind]
    kinds += [each.answer for each in endpoints if each.answer]
    paths: dict[str, dict[str, Any]] = {}
    for each in endpoints:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, has_key=has_key)
    components: dict[str, Any] = {"schemas": schemas_of(dict.fromkeys(kinds))}
    if has_key:
        components["securitySchemes"] = {_KEY: {"type": "http", "scheme": "bearer"}}
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": VERSION,
            "description": _DESCRIPTION.strip(),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": components,
    }
    plain: dict[str, Any] = dedented(whole)
    return plain


def _operation(endpoint: Endpoint, *, has_key: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.what,
        "responses": _responses(endpoint, has_key=has_key),
    }
    if endpoint.parameters:
        told["parameters"] = [_parameter(each) for each in endpoint.parameters]
    if endpoint.topic is not None:
        told["requestBody"] = _body(endpoint.topic)
    if has_key and not endpoint.is_open:
        told["security"] = [{_KEY: []}]
    return told


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.where == "path",
        "description": parameter.what,
        "schema": dict(parameter.schema),
    }


def _body(topic: Topic) -> dict[str, Any]:
    assert topic.kind is not None
    return {
        "required": True,
        "description": f"{topic.what}; at most {topic.max_value_bytes:,} bytes, sent to Kafka as "
        f"they are, keyed by {topic.key_field}",
        "content": {JSON: {"schema": _reference(topic.kind), "example": payload_of(topic.kind)}},
    }


def _responses(endpoint: Endpoint, *, has_key: bool) -> dict[str, Any]:
    schema = _reference(endpoint.answer) if endpoint.answer else {"type": "string"}
    good: dict[str, Any] = {
        "description": endpoint.what,
        "content": {endpoint.media_type: {"schema": schema}},
    }
    if endpoint.headers:
        good["headers"] = _headers(endpoint.headers)
    if endpoint.media_type == EVENT_STREAM:
        good["description"] += (
            "; `event: recommendation`, `id:` the recommendation_id, `data:` a Recommendation"
        )
    responses = {str(endpoint.status): good}
    if endpoint.answer in (Alive, Ready):
        responses["503"] = {"description": "not so; why", "content": good["content"]}
    problems = {*endpoint.problems, 421} | ({401} if has_key and not endpoint.is_open else set())
    for status in sorted(problems - {int(code) for code in responses}):
        responses[str(status)] = _problem(status)
    return responses


def _problem(status: int) -> dict[str, Any]:
    told: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": _reference(ProblemDetails)}},
    }
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.NOT_FOUND):
        told["headers"] = _headers(_RETRY_AFTER)
    return told


def _headers(given: Any) -> dict[str, Any]:
    return {
        name: {"description": what, "schema": {"type": "string"}} for name, what in given.items()
    }


def _reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": REF.format(name=kind.__name__)}
