"""Describe topics: the id that a name has now, and the partitions without a leader.

A topic that was deleted and created again has another id.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from contract.kafka.client import retried

_BITS = 63  # an id is kept as a number of 8 bytes, with a sign
_TELLS_NONE = {KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION}  # noqa: SLF001


class DescribedTopic(NamedTuple):
    """A topic's id as a number, and its partitions without a leader."""

    identity: int
    leaderless: frozenset[int]


def topic_ids(admin: AdminClient, names: Collection[str], *, within_s: float) -> dict[str, int]:
    """Return the id of each topic as a number, by full name.

    There are none where the broker tells no ids.

    Raises:
        BrokerUnavailable: the broker does not answer for *within_s*, or refuses.
        ContractError: a right is missing.
    """
    found = retried(lambda left_s: describe(admin, names, left_s), within_s=within_s)
    return {name: topic.identity for name, topic in found.items()}


def describe(
    admin: AdminClient, names: Collection[str], within_s: float
) -> dict[str, DescribedTopic]:
    """Return each topic by full name; none if the broker does not describe topics.

    Raises:
        KafkaException: the broker did not answer, or refused.
    """
    futures: dict[str, Any] = admin.describe_topics(
        TopicCollection(sorted(names)), request_timeout=max(0.1, within_s)
    )
    try:
        return {name: _described(future.result()) for name, future in futures.items()}
    except KafkaException as error:
        if error.args[0].code() in _TELLS_NONE:
            return {}
        raise


def has_leader(partition: Any) -> bool:
    """Return whether *partition*, an answer of `describe_topics`, has a leader."""
    return partition.leader is not None and partition.leader.id >= 0


def _described(topic: Any) -> DescribedTopic:
    leaderless = frozenset(each.id for each in topic.partitions if not has_leader(each))
    return DescribedTopic(_number(topic.topic_id), leaderless)


def _number(topic_id: Any) -> int:
    high: int = topic_id.get_most_significant_bits()
    low: int = topic_id.get_least_significant_bits()
    return (high ^ low) & ((1 << _BITS) - 1)
