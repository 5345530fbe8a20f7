"""Create topics on a broker that may have just started, and wait until they can be used.

A broker answers before its controller uses it (it is *fenced*), and creates a topic before it leads
its partitions. What may pass is asked for again, within one bound.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from time import monotonic, sleep
from typing import Any

from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not by name
    AdminClient,
    NewTopic,
    OffsetSpec,
)

from contract.cluster.cluster import Cluster, FoundTopic
from contract.errors import BrokerUnavailable
from contract.kafka.client import error_of, failure, is_retriable
from contract.wire.topics import NOT_AFTER
from nextwatch.topics.findings import WantedTopic

_TIMEOUT_S = 60.0
_ATTEMPT_S = 15.0
_AGAIN_S = 0.2
_FENCED = "fenced"
"""In the error of a broker that has just started, and that its controller does not use yet."""


def create(admin: AdminClient, missing: Sequence[WantedTopic], *, replication_factor: int) -> None:
    """Create the topics *missing*, each with *replication_factor* replicas.

    Raises:
        BrokerUnavailable: the broker did not create one of them within a minute.
        ContractError: a right is missing, or a policy of the cluster refuses one.
    """
    errors = _creation_errors(admin, missing, replication_factor)
    old = {n for n, error in errors.items() if error.code() == KafkaError.INVALID_CONFIG}
    if old:  # a broker before Kafka 3.6 does not know one of the settings
        again = [
            replace(topic, config={n: v for n, v in topic.config.items() if n != NOT_AFTER})
            for topic in missing
            if topic.name in old
        ]
        errors = {name: error for name, error in errors.items() if name not in old}
        errors |= _creation_errors(admin, again, replication_factor)
    for name, error in errors.items():
        raise failure(error, f"the broker did not create {name}")


def _creation_errors(
    admin: AdminClient, topics: Sequence[WantedTopic], replication_factor: int
) -> dict[str, KafkaError]:
    """Create *topics*, and return what went wrong, by name; one that exists is none of it.

    What may pass is tried again within the timeout.
    """
    deadline_s = monotonic() + _TIMEOUT_S
    left = list(topics)
    errors: dict[str, KafkaError] = {}
    while left:
        errors |= _creation_attempt(admin, left, replication_factor)
        left = [topic for topic in left if topic.name in errors and _passes(errors[topic.name])]
        if left and monotonic() > deadline_s:
            break
        for topic in left:
            del errors[topic.name]
        if left:
            sleep(_AGAIN_S)
    return errors


def _creation_attempt(
    admin: AdminClient, topics: Sequence[WantedTopic], replication_factor: int
) -> dict[str, KafkaError]:
    new = [
        NewTopic(topic.name, topic.num_partitions, replication_factor, config=dict(topic.config))
        for topic in topics
    ]
    futures = admin.create_topics(
        new, operation_timeout=_ATTEMPT_S, request_timeout=_ATTEMPT_S
    ).items()
    errors = {name: request_error(future) for name, future in futures}
    exists = KafkaError.TOPIC_ALREADY_EXISTS
    return {n: error for n, error in errors.items() if error and error.code() != exists}


def _passes(error: KafkaError) -> bool:
    return is_retriable(error) or _FENCED in error.str()


def await_topics(admin: AdminClient, topics: Sequence[WantedTopic]) -> None:
    """Wait until the broker leads every partition of *topics*.

    Raises:
        BrokerUnavailable: one of them is not served within a minute.
    """
    places = [
        TopicPartition(topic.name, number)
        for topic in topics
        for number in range(topic.num_partitions)
    ]
    deadline_s = monotonic() + _TIMEOUT_S
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # confluent-kafka's own
    while places:
        answers = admin.list_offsets(dict.fromkeys(places, latest), request_timeout=_ATTEMPT_S)
        places = [place for place, future in answers.items() if request_error(future) is not None]
        if places and monotonic() > deadline_s:
            raise BrokerUnavailable(f"the broker created {places[0].topic}, but does not serve it")
        if places:
            sleep(0.05)


def described(cluster: Cluster, topics: Sequence[WantedTopic]) -> dict[str, FoundTopic]:
    """Return the created *topics* as the cluster made them, once the broker describes them.

    How many replicas they have is only known now where the broker does not tell its default.

    Raises:
        BrokerUnavailable: one of them is not described within a minute.
    """
    names = {topic.name for topic in topics}
    deadline_s = monotonic() + _TIMEOUT_S
    while True:
        try:
            found = cluster.topics(names)
        except BrokerUnavailable:
            if monotonic() > deadline_s:
                raise
        else:
            if found.keys() == names:
                return found
            if monotonic() > deadline_s:
                missing = ", ".join(sorted(names - found.keys()))
                raise BrokerUnavailable(f"the broker created {missing}, but does not describe it")
        sleep(_AGAIN_S)


def request_error(future: "Future[Any]") -> KafkaError | None:
    """Return the error of a request, None if it succeeded."""
    return error_of(future, within_s=_TIMEOUT_S + 5)
