"""Records as they come and go: what Kafka says of a message, without any client's classes."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Position(NamedTuple):
    """One partition of one topic, by its contract name (no prefix)."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Received:
    """A record that came in; *ingested_at_ms* is the record's own timestamp, -1 for none."""

    at: Position
    offset: int
    key: bytes | None
    value: bytes | None
    ingested_at_ms: int = -1
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to produce; *topic* is the full name, and partition -1 is the partitioner's."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int = -1
    headers: list[tuple[str, str | bytes | None]] = field(default_factory=list)
