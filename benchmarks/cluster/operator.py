"""Administer a cluster: users, rights, topic settings, deletions."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not by name
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from benchmarks.cluster.certificates import PASSWORD
from benchmarks.stack.waiting import eventually
from contract.kafka.client import client_config
from contract.process.settings import KafkaSettings

WITHIN_S = 90.0
_ANSWER_S = 30.0
_NUM_SCRAM_ROUNDS = 4_096


class Operator:
    """The super user at *bootstrap_servers*; each request returns when it is done and seen."""

    def __init__(self, bootstrap_servers: str) -> None:
        settings = KafkaSettings(bootstrap_servers=bootstrap_servers)
        self.admin = AdminClient(client_config(settings) | {"log_level": 0})

    def leader(self, topic: str, partition: int) -> int:
        """Return the broker that leads a partition, -1 while there is none."""
        return int(self._partition(topic, partition).leader)

    def in_sync(self, topic: str, partition: int) -> list[int]:
        """Return the brokers whose copy of a partition is in sync."""
        return sorted(self._partition(topic, partition).isrs)

    def await_in_sync(self) -> None:
        """Wait until every copy of every partition is in sync, Kafka's own topics included.

        Before that the death of one broker takes two copies, and what may not be written to one
        copy alone stands still.

        Raises:
            TimeoutError: it did not come so within `WITHIN_S`.
        """

        def are_in_sync() -> bool:
            topics = self.admin.list_topics(timeout=10).topics.values()
            copies = [one for topic in topics for one in topic.partitions.values()]
            return all(len(one.isrs) == len(one.replicas) for one in copies)

        until(are_in_sync, "not every copy is in sync")

    def first_offset(self, topic: str, partition: int) -> int:
        """Return the offset at which a partition begins."""
        place = TopicPartition(topic, partition)
        earliest = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # confluent-kafka's own
        answer = self.admin.list_offsets({place: earliest})[place]
        return int(answer.result(_ANSWER_S).offset)

    def add_user(self, name: str, password: str = PASSWORD) -> None:
        """Add a SCRAM user, or give one that exists another password."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, _NUM_SCRAM_ROUNDS)
        change = UserScramCredentialUpsertion(name, info, password.encode())
        self._request("alter_user_scram_credentials", [change])

    def allow(
        self, user: str, kind: ResourceType, name: str, *operations: AclOperation
    ) -> list[AclBinding]:
        """Grant *operations*, or all, on *name*; ``a-*`` is everything that begins with ``a-``.

        Returns what was granted, for `forbid`.
        """
        is_prefix = name != "*" and name.endswith("*")
        pattern = ResourcePatternType.PREFIXED if is_prefix else ResourcePatternType.LITERAL
        wanted = name.removesuffix("*") if is_prefix else name
        who = (f"User:{user}", "*")
        bindings = [
            AclBinding(kind, wanted, pattern, *who, operation, AclPermissionType.ALLOW)
            for operation in operations or (AclOperation.ALL,)
        ]
        self._request("create_acls", bindings)
        return bindings

    def forbid(self, granted: Sequence[AclBinding]) -> None:
        """Take back what `allow` granted."""
        filters = [
            AclBindingFilter(
                acl.restype,
                acl.name,
                acl.resource_pattern_type,
                acl.principal,
                acl.host,
                acl.operation,
                acl.permission_type,
            )
            for acl in granted
        ]
        self._request("delete_acls", filters)

    def configure_topic(self, topic: str, **settings: str) -> None:
        """Set *settings* of *topic*, written with underscores for dots."""
        named = {name.replace("_", "."): value for name, value in settings.items()}
        changes = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in named.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes)
        self._request("incremental_alter_configs", [resource])
        asked = ConfigResource(ResourceType.TOPIC, topic)

        def is_seen() -> bool:
            [answer] = self.admin.describe_configs([asked]).values()
            found = answer.result(_ANSWER_S)
            return all(found[name].value == value for name, value in named.items())

        until(is_seen, f"{topic} has not got its settings")

    def create_topic(self, topic: str, replicas: Sequence[Sequence[int]], **settings: str) -> None:
        """Create *topic* with a partition for each of *replicas*, its brokers, the leader first."""
        config = {name.replace("_", "."): value for name, value in settings.items()}
        assignment = [list(brokers) for brokers in replicas]
        new = NewTopic(topic, len(replicas), replica_assignment=assignment, config=config)
        self._request("create_topics", [new])
        until(lambda: self._num_led(topic) == len(replicas), f"{topic} is not led")

    def add_partitions(self, topic: str, num_partitions: int) -> None:
        """Give *topic* so many partitions altogether."""
        self._request("create_partitions", [NewPartitions(topic, num_partitions)])
        until(lambda: self._num_led(topic) == num_partitions, f"{topic} has no new partitions")

    def delete_records(self, topic: str, partition: int, *, before: int = -1) -> None:
        """Delete what lies before an offset, as retention does; -1 is everything."""
        self._request("delete_records", [TopicPartition(topic, partition, before)])

    def delete_topic(self, topic: str) -> None:
        """Delete *topic*."""
        self._request("delete_topics", [topic])
        until(lambda: self._num_led(topic) == 0, f"{topic} is still there")

    def _partition(self, topic: str, partition: int) -> Any:
        return self.admin.list_topics(topic, timeout=10).topics[topic].partitions[partition]

    def _num_led(self, topic: str) -> int:
        found = self.admin.list_topics(timeout=10).topics.get(topic)
        partitions = found.partitions.values() if found is not None else ()
        return sum(partition.leader >= 0 for partition in partitions)

    def _request(self, name: str, wanted: Sequence[Any]) -> None:
        """Make a request of the admin client; the first error in its answers is raised."""
        for answer in getattr(self.admin, name)(wanted).values():
            answer.result(_ANSWER_S)


def until(is_so: Callable[[], bool], otherwise: str) -> None:
    """Wait until *is_so*; brokers report it late, and not while one of them is down.

    Raises:
        TimeoutError: it did not come so within `WITHIN_S`; it says *otherwise*.
    """

    def is_seen() -> bool:
        with suppress(KafkaException):
            return is_so()
        return False

    if not eventually(is_seen, within_s=WITHIN_S, every_s=0.1):
        raise TimeoutError(f"{otherwise} after {WITHIN_S:.0f} s")
