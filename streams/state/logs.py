"""Look up the log of a partition: its first and last offset, and its topic's id.

An offset is only valid for the log it came from. A topic that was deleted and created again has
another id; a log that ends before a remembered offset is another one, or was cut.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from contract.kafka.client import retried
from contract.kafka.records import Position
from contract.kafka.topic_ids import describe

LOOK_WITHIN_S = 30.0
TRY_S = 5.0
"""A partition whose leader went a moment ago is asked for in vain until the cluster has noticed."""

_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]


class Log(NamedTuple):
    """The log of one partition: its first offset, the one after its last, and its topic's id.

    The *identity* is 0 where the broker gives none.
    """

    start: int
    end: int
    identity: int = 0

    def is_other_than(self, identity: int, offset: int) -> bool:
        """Return whether this is not the log of *identity* that *offset* was read from.

        Nothing beyond the end of a log was ever read from it. A log of the same topic that ends
        before *offset* was cut, and what came since the cut may never have been read.
        """
        return self.is_of_another_topic(identity) or offset > self.end

    def is_of_another_topic(self, identity: int) -> bool:
        """Return whether the topic of *identity* is another one; False where one is not known."""
        return bool(identity and self.identity) and identity != self.identity


class Looker:
    """Looks up logs in one cluster.

    A request that a connection has lost is waited for until librdkafka gives the connection up, a
    minute later, and those after it, too. So the next try has a client of its own.
    """

    def __init__(self, new_admin: Callable[[], AdminClient]) -> None:
        self._new_admin = new_admin
        self._admin = new_admin()

    def look(
        self, names: Mapping[Position, str], *, within_s: float = LOOK_WITHIN_S
    ) -> dict[Position, Log]:
        """Return the log of each partition in *names* that has a leader; the values are full names.

        Raises:
            BrokerUnavailable: the broker does not answer for *within_s*, or refuses.
            ContractError: a right is missing.
        """
        if not names:
            return {}
        return retried(lambda left_s: self._try(names, min(left_s, TRY_S)), within_s=within_s)

    def _try(self, names: Mapping[Position, str], within_s: float) -> dict[Position, Log]:
        try:
            return _look(self._admin, names, within_s)
        except KafkaException:
            self._admin = self._new_admin()
            raise


def _look(
    admin: AdminClient, names: Mapping[Position, str], within_s: float
) -> dict[Position, Log]:
    topics = describe(admin, set(names.values()), within_s)
    led = {
        at: name
        for at, name in names.items()
        if name not in topics or at.partition not in topics[name].leaderless
    }
    if not led:
        return {}
    starts = _offsets(admin, led, _EARLIEST, within_s)
    ends = _offsets(admin, led, _LATEST, within_s)
    identities = {name: topic.identity for name, topic in topics.items()}
    return {at: Log(starts[at], ends[at], identities.get(name, 0)) for at, name in led.items()}


def _offsets(
    admin: AdminClient, names: Mapping[Position, str], spec: OffsetSpec, within_s: float
) -> dict[Position, int]:
    asked = {TopicPartition(name, at.partition): at for at, name in names.items()}
    futures = admin.list_offsets(dict.fromkeys(asked, spec), request_timeout=max(0.1, within_s))
    by_name = {(place.topic, place.partition): at for place, at in asked.items()}
    found = {
        by_name[place.topic, place.partition]: future.result().offset
        for place, future in futures.items()
    }
    if any(offset < 0 for offset in found.values()):  # seen while the leaders changed
        raise KafkaException(KafkaError(KafkaError.OFFSET_NOT_AVAILABLE))
    return found
