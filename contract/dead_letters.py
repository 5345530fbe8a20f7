"""What a dead letter looks like: the original bytes and headers, plus why and from where."""

import hashlib
from collections.abc import Iterable

from contract.errors import DecodeError

MAX_KEPT_BYTES = 262_144
"""Longer values are cut here; ``dlq.length`` and ``dlq.sha256`` tell of the whole."""

Header = tuple[str, str | bytes | None]


def headers(
    error: DecodeError,
    *,
    topic: str,
    partition: int,
    offset: int,
    app: str,
    now_ms: int,
    value: bytes | None,
    original: Iterable[tuple[str, bytes | None]] | None = None,
) -> list[Header]:
    """Return the headers of a dead letter: the *original* ones first, then ``dlq.*``."""
    body = value or b""
    reasons = {
        "dlq.reason": error.reason,
        "dlq.topic": topic,
        "dlq.partition": str(partition),
        "dlq.offset": str(offset),
        "dlq.ts": str(now_ms),
        "dlq.app": app,
        "dlq.length": str(len(body)),
        "dlq.sha256": hashlib.sha256(body).hexdigest(),
    }
    kept: list[Header] = [(name, data) for name, data in original or ()]
    return kept + [(name, text.encode()) for name, text in reasons.items()]


def kept_value(value: bytes | None) -> bytes | None:
    """Return the part of *value* that a dead letter keeps."""
    return value if value is None else value[:MAX_KEPT_BYTES]
