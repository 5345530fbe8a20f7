"""What a dead letter looks like: the original bytes and headers, plus why and from where."""

import hashlib

from contract.errors import DecodeError
from contract.outbox import Header, Outgoing
from contract.records import Received
from contract.topics import Layout, Topic

MAX_KEPT_BYTES = 262_144
"""Longer values are cut here; ``dlq.length`` and ``dlq.sha256`` tell of the whole."""


def dead_letter(
    record: Received, error: DecodeError, *, layout: Layout, topic: Topic, app: str, now_ms: int
) -> Outgoing:
    """Return *record* of *topic* as a dead letter: its own headers first, then ``dlq.*``."""
    body = record.value or b""
    reasons = {
        "dlq.reason": error.reason,
        "dlq.topic": topic.name,
        "dlq.partition": str(record.partition),
        "dlq.offset": str(record.offset),
        "dlq.ts": str(now_ms),
        "dlq.app": app,
        "dlq.length": str(len(body)),
        "dlq.sha256": hashlib.sha256(body).hexdigest(),
    }
    headers: list[Header] = [*record.headers]
    headers += [(name, text.encode()) for name, text in reasons.items()]
    kept = None if record.value is None else record.value[:MAX_KEPT_BYTES]
    return Outgoing(layout.dlq_name(topic), record.key, kept, headers=headers)
