"""Publish lists on a compacted topic, and remove the ones of before that are made no more.

The new lists come first and the tombstones after them, so that a reader never has less than one
of the two. Lists that are published again change nothing; a run that is killed leaves old lists
among new ones, until the next run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from contract.kafka.outbox import Outgoing
from contract.wire.events import HottestVideos, SimilarVideos, encode
from contract.wire.topics import Layout, Topic
from nextwatch.batch.progress import Tell
from nextwatch.operate.scan import Scan

_AT_ONCE = 1_000


class Deliverer(Protocol):
    """What sends records and waits for their acknowledgement: an outbox."""

    def deliver(self, records: Sequence[Outgoing]) -> list[int]:
        """Return the offsets of *records* once they are acknowledged."""
        ...


@dataclass(frozen=True, slots=True)
class Published:
    """How many lists were published, and how many removed."""

    num_lists: int
    num_removed: int


def publish(
    lists: Sequence[SimilarVideos | HottestVideos],
    topic: Topic,
    layout: Layout,
    *,
    scan: Scan,
    outbox: Deliverer,
    tell: Tell,
) -> Published:
    """Publish *lists* on *topic*, and return once all of it is acknowledged.

    Without any list nothing is removed either: then there was nothing to make lists of.

    Raises:
        BrokerUnavailable: a record was not acknowledged.
        ContractError: the topic does not exist, or a right is missing.
    """
    if not lists:
        return Published(0, 0)
    name = layout.name(topic)
    keys = {str(getattr(one, topic.key_field)).encode() for one in lists}
    gone = sorted(_published(scan, topic) - keys)
    records = [
        *(
            Outgoing(name, str(getattr(one, topic.key_field)).encode(), encode(one))
            for one in lists
        ),
        *(Outgoing(name, key, None) for key in gone),
    ]
    num_sent = 0
    for some in _in_portions(records):
        outbox.deliver(some)
        num_sent += len(some)
        tell(num_sent, len(records))
    return Published(len(lists), len(gone))


def _published(scan: Scan, topic: Topic) -> set[bytes]:
    """Return the keys that the topic has a list of."""
    there: set[bytes] = set()
    for record in scan.read([topic.name]):
        if record.key and record.value is not None:
            there.add(record.key)
        elif record.key:
            there.discard(record.key)
    return there


def _in_portions(records: Sequence[Outgoing]) -> Iterable[Sequence[Outgoing]]:
    return (records[at : at + _AT_ONCE] for at in range(0, len(records), _AT_ONCE))
