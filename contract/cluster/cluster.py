"""Describe topics and a consumer group, as the preflight needs them.

Topics are asked for by name. A list of all topics leaves out those that this user may not describe,
so a missing right would look like a missing topic.
"""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not by name
    AclOperation,
    AdminClient,
    ConfigResource,
    ResourceType,
)

from contract.cluster.needs import Right, Rights
from contract.kafka.client import retried
from contract.kafka.topic_ids import has_leader

T = TypeVar("T")

ANSWER_S = 10.0
_DENIED = {
    "TOPIC_AUTHORIZATION_FAILED",
    "GROUP_AUTHORIZATION_FAILED",
    "CLUSTER_AUTHORIZATION_FAILED",
}
_NO_TOPIC = {"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC"}
_NEVER_TOLD = {"_UNSUPPORTED_FEATURE", "UNSUPPORTED_VERSION", "_NOENT", "INVALID_REQUEST"}
_RIGHTS = {right.upper().replace("CONFIGS", "_CONFIGS"): right for right in Right}


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """One topic as the broker describes it; *rights* and *settings* are None if not reported.

    A topic that this user may not describe *is_denied*; of one that does not exist there is no
    `FoundTopic`.
    """

    num_partitions: int = 0
    num_replicas: int = 0
    leaderless: tuple[int, ...] = ()
    rights: Rights | None = None
    settings: Mapping[str, str] | None = None
    is_denied: bool = False


@dataclass(frozen=True, slots=True)
class FoundGroup:
    """One consumer group, and its *members* by client id and host.

    The *protocol* is the assignor that its members agreed on, or "consumer" where they use the
    new group protocol; empty while they have not.
    """

    rights: Rights | None = None
    protocol: str = ""
    members: tuple[str, ...] = ()
    is_denied: bool = False


class Cluster:
    """Describes topics and groups; retriable errors are retried for `ANSWER_S`."""

    def __init__(self, admin: AdminClient, *, answer_s: float = ANSWER_S) -> None:
        self._admin = admin
        self._answer_s = answer_s

    def topics(self, names: Collection[str]) -> dict[str, FoundTopic]:
        """Return those of the topics *names* that exist.

        Raises:
            BrokerUnavailable: the broker does not answer.
        """
        if not names:
            return {}
        described = self._retried(lambda left_s: self._described(names, left_s))
        readable = [name for name, topic in described.items() if not topic.is_denied]
        settings = self.settings(ResourceType.TOPIC, readable)
        return {
            name: replace(topic, settings=settings.get(name)) for name, topic in described.items()
        }

    def settings(self, kind: ResourceType, names: Collection[str]) -> dict[str, dict[str, str]]:
        """Return the settings of those topics or brokers whose settings may be read.

        Raises:
            BrokerUnavailable: the broker does not answer.
        """
        resources = [ConfigResource(kind, name) for name in names]
        if not resources:
            return {}

        def ask(left_s: float) -> dict[str, dict[str, str]]:
            answers = self._admin.describe_configs(resources, request_timeout=left_s)
            told = {each.name: _unless_denied(answer) for each, answer in answers.items()}
            return {
                name: {entry.name: entry.value for entry in entries.values()}
                for name, entries in told.items()
                if entries is not None
            }

        return self._retried(ask)

    def broker_settings(self) -> dict[str, str]:
        """Return the settings of one broker; none where this user may not read them.

        Brokers are listed, since `describe_cluster` aborts the process while no broker is ready.

        Raises:
            BrokerUnavailable: the broker does not answer.
        """
        listed = self._retried(lambda left_s: self._admin.list_topics(timeout=left_s))
        numbers = [str(number) for number in listed.brokers][:1]
        return self.settings(ResourceType.BROKER, numbers).get("".join(numbers), {})

    def group(self, name: str) -> FoundGroup:
        """Return the consumer group *name*; one that does not exist has no members.

        Raises:
            BrokerUnavailable: the broker does not answer.
        """

        def ask(left_s: float) -> FoundGroup:
            answers = self._admin.describe_consumer_groups(
                [name], include_authorized_operations=True, request_timeout=left_s
            )
            description = _unless_denied(answers[name])
            if description is None:
                is_denied = _error_name(answers[name]) in _DENIED
                return FoundGroup(is_denied=is_denied)
            is_new = description.type.name == "CONSUMER"
            return FoundGroup(
                _rights(description.authorized_operations),
                "consumer" if is_new and description.members else description.partition_assignor,
                tuple(f"{each.client_id} on {each.host}" for each in description.members),
            )

        return self._retried(ask)

    def _described(self, names: Collection[str], left_s: float) -> dict[str, FoundTopic]:
        answers = self._admin.describe_topics(
            TopicCollection(list(names)),
            include_authorized_operations=True,
            request_timeout=left_s,
        )
        if any(_error_name(answer) in _NEVER_TOLD for answer in answers.values()):
            return self._listed(names, left_s)
        found = {}
        for name, answer in answers.items():
            if _error_name(answer) in _NO_TOPIC:
                continue
            described = _unless_denied(answer)
            found[name] = FoundTopic(is_denied=True) if described is None else _topic(described)
        return found

    def _listed(self, names: Collection[str], left_s: float) -> dict[str, FoundTopic]:
        """Return topics as listed by a broker that speaks Kafka's protocol and describes none."""
        listed = self._admin.list_topics(timeout=left_s).topics
        return {
            name: FoundTopic(
                len(listed[name].partitions),
                min((len(each.replicas) for each in listed[name].partitions.values()), default=0),
                tuple(each.id for each in listed[name].partitions.values() if each.leader < 0),
            )
            for name in names
            if name in listed
        }

    def _retried(self, request: Callable[[float], T]) -> T:
        return retried(lambda left_s: request(max(0.1, left_s)), within_s=self._answer_s)


def _topic(described: Any) -> FoundTopic:
    return FoundTopic(
        len(described.partitions),
        min((len(each.replicas) for each in described.partitions), default=0),
        tuple(each.id for each in described.partitions if not has_leader(each)),
        _rights(described.authorized_operations),
    )


def _rights(operations: Collection[AclOperation] | None) -> Rights | None:
    """Return the rights among *operations*; None where the broker knows of none at all."""
    if not operations:
        return None
    return frozenset(_RIGHTS[each.name] for each in operations if each.name in _RIGHTS)


def _error_name(answer: "Future[Any]") -> str:
    error = answer.exception()
    return error.args[0].name() if isinstance(error, KafkaException) else ""


def _unless_denied(answer: "Future[Any]") -> Any:
    """Return what was answered, None where it may not be known; raise any other error."""
    if _error_name(answer) in _DENIED | _NEVER_TOLD:
        return None
    return answer.result()
