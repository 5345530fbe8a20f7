"""Repair small faults in events from outside, so that the events are accepted.

Optional means absent, null or unreadable: a bad optional text, list or object is left out, a long
title and too many tags are cut. Numbers, optional ones too, stay strict but for fractions, which
are rounded. Whatever else is required stays as it is, for the strict decoder to judge. Each change
but that of a null is counted in *notes* by what was done and to which field.
"""

import math
from collections import Counter
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from contract.wire.identifiers import is_too_long

Notes = Counter[str]
"""How often what was done to which field: ``dropped:context.country``, ``rounded:watch_ms``."""

_CUT_TEXTS = frozenset({"title"})


def mended(
    kind: type[msgspec.Struct], document: dict[str, Any], notes: Notes, *, path: str = ""
) -> dict[str, Any]:
    """Return *document* without the faulty optional values of an event of *kind*."""
    kept = dict(document)
    for field, shape in _fields(kind):
        name = field.encode_name
        if name not in kept:
            continue
        value, where = kept[name], path + name
        if isinstance(shape, inspect.IntType):
            value = _rounded(value, where, notes)
        elif isinstance(shape, inspect.ListType) and isinstance(value, list):
            value = _list(value, shape, where, notes, is_required=field.required)
        elif field.required:
            pass
        elif isinstance(shape, inspect.StructType) and isinstance(value, dict):
            value = mended(shape.cls, value, notes, path=where + ".")
        elif value is not None:
            value = _text(value, field, shape, where, notes)
        if value is None and not field.required:
            del kept[name]
        else:
            kept[name] = value
    return kept


def _rounded(value: Any, where: str, notes: Notes) -> Any:
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    notes[f"rounded:{where}"] += 1
    return math.floor(value + 0.5)


def _list(
    values: list[Any], shape: inspect.ListType, where: str, notes: Notes, *, is_required: bool
) -> list[Any]:
    """Return *values*: objects mended; of an optional list as many good elements as it may have."""
    element = _plain(shape.item_type)
    if isinstance(element, inspect.StructType):
        path = where + "."
        values = [
            mended(element.cls, one, notes, path=path) if isinstance(one, dict) else one
            for one in values
        ]
    if is_required:
        return values
    good = [one for one in values if isinstance(one, str) and _is_short(one, element)]
    if len(good) < len(values):
        notes[f"dropped:{where}"] += 1
    if shape.max_length is not None and len(good) > shape.max_length:
        notes[f"cut:{where}"] += 1
    return good[: shape.max_length]


def _is_short(text: str, element: inspect.Type) -> bool:
    assert isinstance(element, inspect.StrType), "optional lists are lists of labels"
    return (element.min_length or 0) <= len(text) <= (element.max_length or len(text))


def _text(
    value: Any, field: msgspec.structs.FieldInfo, shape: inspect.Type, where: str, notes: Notes
) -> Any:
    """Return the optional *value*, cut if it may be, None if it cannot be read."""
    is_cut = field.name in _CUT_TEXTS and isinstance(value, str)
    if is_cut and isinstance(shape, inspect.StrType) and not _is_short(value, shape):
        notes[f"cut:{where}"] += 1
        return value[: shape.max_length]
    if _is_readable(value, field):
        return value
    notes[f"dropped:{where}"] += 1
    return None


def _is_readable(value: Any, field: msgspec.structs.FieldInfo) -> bool:
    try:
        msgspec.convert(value, field.type)
    except msgspec.ValidationError:
        return False
    return not (field.name.endswith("_id") and is_too_long(value))


@cache
def _fields(
    kind: type[msgspec.Struct],
) -> tuple[tuple[msgspec.structs.FieldInfo, inspect.Type], ...]:
    return tuple(
        (field, _plain(inspect.type_info(field.type))) for field in msgspec.structs.fields(kind)
    )


def _plain(shape: inspect.Type) -> inspect.Type:
    """Return *shape* without its notes, and without the null that it may be instead."""
    while isinstance(shape, inspect.Metadata):
        shape = shape.type
    if isinstance(shape, inspect.UnionType):
        others = [one for one in shape.types if not isinstance(one, inspect.NoneType)]
        return _plain(others[0]) if len(others) == 1 else shape
    return shape
