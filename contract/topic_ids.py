"""Which topic bears a name now: one that was deleted and created again has another id."""

from collections.abc import Collection
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from contract.kafka import retried

_BITS = 63  # an id is kept as a number of 8 bytes, with a sign
_TELLS_NONE = {KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION}  # noqa: SLF001


def topic_ids(admin: AdminClient, names: Collection[str], *, within_s: float) -> dict[str, int]:
    """Return a number that stands for the id of each topic, by its full name.

    There are none where the broker tells no ids.

    Raises:
        BrokerUnavailable: the broker does not answer for *within_s*, or refuses.
        ContractError: a right is missing.
    """
    return retried(lambda left_s: _told(admin, names, left_s), within_s=within_s)


def _told(admin: AdminClient, names: Collection[str], left_s: float) -> dict[str, int]:
    futures: dict[str, Any] = admin.describe_topics(
        TopicCollection(sorted(names)), request_timeout=max(0.1, left_s)
    )
    try:
        return {name: _number(future.result().topic_id) for name, future in futures.items()}
    except KafkaException as error:
        if error.args[0].code() in _TELLS_NONE:
            return {}
        raise


def _number(topic_id: Any) -> int:
    high: int = topic_id.get_most_significant_bits()
    low: int = topic_id.get_least_significant_bits()
    return (high ^ low) & ((1 << _BITS) - 1)
