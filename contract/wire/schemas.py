"""Describe the structs of the contract as JSON Schema, for AsyncAPI and OpenAPI documents alike.

Ids become references to one schema each, and patterns end as JSON Schema ends them.
"""

import inspect
from collections.abc import Iterable
from typing import Any

import msgspec

from contract.wire.events import BundleId, EventId, Id
from contract.wire.identifiers import EXACT_END

REF = "#/components/schemas/{name}"
"""How a document refers to a schema."""

_SHARED_TYPES = {"Id": Id, "EventId": EventId, "BundleId": BundleId}
_SHARED = {msgspec.json.schema(given)["description"]: name for name, given in _SHARED_TYPES.items()}


def schemas_of(kinds: Iterable[type[msgspec.Struct]]) -> dict[str, Any]:
    """Return the schemas of *kinds*, of what they contain and of ids, sorted by name."""
    _, structs = msgspec.json.schema_components(list(kinds), ref_template=REF)
    schemas = {name: _portable(schema) for name, schema in structs.items()} | _shared_types()
    return dict(sorted(schemas.items()))


def schema_of(kind: Any) -> dict[str, Any]:
    """Return the schema of *kind*, which is no struct."""
    schema: dict[str, Any] = _portable(msgspec.json.schema(kind))
    return schema


def dedented(node: Any) -> Any:
    """Return *node* with docstrings as in Python 3.13; older versions keep the indentation."""
    if isinstance(node, dict):
        return {name: dedented(child) for name, child in node.items()}
    if isinstance(node, list):
        return [dedented(child) for child in node]
    return inspect.cleandoc(node) if isinstance(node, str) and "\n" in node else node


def _portable(schema: Any) -> Any:
    if isinstance(schema, dict):
        name = _SHARED.get(schema.get("description", ""))
        if name:
            return {"$ref": REF.format(name=name)}
        return {key: _portable(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_portable(value) for value in schema]
    if isinstance(schema, str) and schema.startswith("^") and schema.endswith(EXACT_END):
        return schema.removesuffix(EXACT_END) + "$"
    return schema


def _shared_types() -> dict[str, Any]:
    return {
        name: {key: _portable(value) for key, value in msgspec.json.schema(given).items()}
        for name, given in _SHARED_TYPES.items()
    }
