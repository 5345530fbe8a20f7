"""What a partition's log is now: where it starts and ends, and which log it is.

An offset is only valid for the log it came from. A topic that was deleted and created again has
another id; a log that ends before a remembered offset is another one, or was cut.
"""

from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from contract.kafka import retried
from contract.records import Position
from contract.topic_ids import topic_ids

LOOK_WITHIN_S = 30.0
_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]


class Log(NamedTuple):
    """The log of one partition: its first offset, the one after its last, and its topic's id.

    The *identity* is 0 where the broker tells none.
    """

    start: int
    end: int
    identity: int = 0

    def is_other_than(self, identity: int, offset: int) -> bool:
        """Return whether this is not the log of *identity* that *offset* was read from.

        Nothing beyond the end of a log was ever read from it. A log of the same topic that ends
        before *offset* was cut, and what came since the cut may never have been read.
        """
        is_of_another_topic = identity != self.identity if identity and self.identity else False
        return is_of_another_topic or offset > self.end


def look(
    admin: AdminClient, names: Mapping[Position, str], *, within_s: float = LOOK_WITHIN_S
) -> dict[Position, Log]:
    """Return the log of each partition in *names*, which gives the full name of its topic.

    Raises:
        BrokerUnavailable: the broker does not answer for *within_s*, or refuses.
    """
    if not names:
        return {}
    identities = topic_ids(admin, set(names.values()), within_s=within_s)
    starts = retried(lambda left_s: _offsets(admin, names, _EARLIEST, left_s), within_s=within_s)
    ends = retried(lambda left_s: _offsets(admin, names, _LATEST, left_s), within_s=within_s)
    return {at: Log(starts[at], ends[at], identities.get(name, 0)) for at, name in names.items()}


def _offsets(
    admin: AdminClient, names: Mapping[Position, str], spec: OffsetSpec, left_s: float
) -> dict[Position, int]:
    asked = {TopicPartition(name, at.partition): at for at, name in names.items()}
    futures = admin.list_offsets(dict.fromkeys(asked, spec), request_timeout=max(0.1, left_s))
    by_name = {(place.topic, place.partition): at for place, at in asked.items()}
    return {
        by_name[place.topic, place.partition]: future.result().offset
        for place, future in futures.items()
    }
