"""Define consumed records with contract names, independent of the client's classes.

The prefix of a cluster ends here: whatever handles a record knows its topic by the name that
`contract.wire.topics` gives it.
"""

from dataclasses import dataclass
from operator import methodcaller
from typing import NamedTuple, cast

from confluent_kafka import Message

from contract.wire.keys import MAX_KEY_BYTES, partition_of
from contract.wire.topics import BY_NAME, Layout

Headers = tuple[tuple[str, bytes | None], ...]
"""Names and values as they came."""

UNREADABLE: Headers = (("\udcff", None),)
"""In place of headers that confluent-kafka does not give: one of the names is not UTF-8. No client
in Python gives them, so the record is a dead letter without them; it has them where it came
from."""


_CHECKED_HEADERS = methodcaller("headers")


class Position(NamedTuple):
    """One partition of one topic, by its contract name (no prefix)."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Received:
    """A record that came in; *ingested_at_ms* is the record's own timestamp, -1 for none.

    *num_partitions* is how many its topic has, 0 where that says nothing of the place of its key.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    ingested_at_ms: int = -1
    headers: Headers = ()
    num_partitions: int = 0

    @property
    def at(self) -> Position:
        """The partition it came from."""
        return Position(self.topic, self.partition)

    @property
    def home(self) -> int:
        """The partition that its key belongs to; its own if that is not known."""
        if not self.key or not self.num_partitions or len(self.key) > MAX_KEY_BYTES:
            return self.partition
        return partition_of(self.key, self.num_partitions)


def received(message: Message, layout: Layout) -> Received:
    """Return *message*, which is not an error, as a record."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    kind, timestamp_ms = message.timestamp()
    name = topic.removeprefix(layout.prefix)
    known = BY_NAME.get(name)
    return Received(
        topic=name,
        partition=partition,
        offset=offset,
        key=message.key(),
        value=message.value(),
        ingested_at_ms=timestamp_ms if kind else -1,
        headers=headers_of(message),
        num_partitions=layout.num_partitions(known) if known and known.kind else 0,
    )


def headers_of(message: Message) -> Headers:
    """Return the headers of *message*, `UNREADABLE` if a name is not UTF-8.

    The client returns a broken list then, with an error set that nobody raised. A plain call of
    the method would let it pass once the interpreter has specialised the call, and it would end
    whatever comes next; a call made from C is always checked.
    """
    try:
        return cast("Headers", tuple(_CHECKED_HEADERS(message) or ()))
    except (UnicodeDecodeError, SystemError):
        return UNREADABLE
