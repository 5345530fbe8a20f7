"""What operators and retention do to topics under running clients."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not by name
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from benchmarks.player import eventually
from contract.errors import NextwatchError
from contract.kafka import client_config
from contract.settings import KafkaSettings
from nextwatch.topics import reconcile

WITHIN_S = 30.0
"""How long the broker may take."""

EVERYTHING = -1
"""The offset before which all there is lies."""


def admin_of(kafka: KafkaSettings) -> AdminClient:
    """Return a client that is quiet about connections."""
    return AdminClient(client_config(kafka) | {"log_level": 0})


def create_again(kafka: KafkaSettings, name: str) -> None:
    """Delete the topic *name* and have `nextwatch topics` create it again.

    Raises:
        KafkaException: the broker refused.
    """
    admin = admin_of(kafka)
    full_name = kafka.topic_prefix + name
    _done(admin.delete_topics([full_name]).values())

    def has_topic() -> bool:
        return full_name in admin.list_topics(timeout=WITHIN_S).topics

    def is_created() -> bool:
        try:
            reconcile(kafka)
        except (KafkaException, NextwatchError):  # it is still being deleted
            return False
        return has_topic()

    assert eventually(lambda: not has_topic(), within_s=WITHIN_S), "the topic was not deleted"
    assert eventually(is_created, within_s=WITHIN_S), "the topic was not created again"


def delete_records(kafka: KafkaSettings, name: str, before: Mapping[int, int]) -> None:
    """Delete what lies before the given offset of each partition, as retention does.

    Raises:
        KafkaException: the broker refused.
    """
    admin = admin_of(kafka)
    places = [
        TopicPartition(kafka.topic_prefix + name, number, offset)
        for number, offset in before.items()
    ]
    _done(admin.delete_records(places, request_timeout=WITHIN_S).values())


def add_partitions(kafka: KafkaSettings, names: Iterable[str], count: int) -> None:
    """Give each of the topics *names* more partitions, *count* in all.

    Raises:
        KafkaException: the broker refused.
    """
    admin = admin_of(kafka)
    wanted = [NewPartitions(kafka.topic_prefix + name, count) for name in names]
    _done(admin.create_partitions(wanted).values())


def set_configs(kafka: KafkaSettings, name: str, settings: Mapping[str, str]) -> None:
    """Change *settings* of a topic, and wait until the broker shows them.

    Raises:
        KafkaException: the broker refused.
    """
    admin = admin_of(kafka)
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        for key, value in settings.items()
    ]
    full_name = kafka.topic_prefix + name
    resource = ConfigResource(ResourceType.TOPIC, full_name, incremental_configs=entries)
    _done(admin.incremental_alter_configs([resource]).values())
    assert eventually(lambda: settings.items() <= configs(kafka, name).items(), within_s=WITHIN_S)


def configs(kafka: KafkaSettings, name: str) -> dict[str, str]:
    """Return the settings of a topic.

    Raises:
        KafkaException: the broker refused, or there is no such topic.
    """
    admin = admin_of(kafka)
    resource = ConfigResource(ResourceType.TOPIC, kafka.topic_prefix + name)
    [future] = admin.describe_configs([resource]).values()
    return {entry.name: entry.value for entry in future.result(WITHIN_S).values()}


def _done(futures: "Iterable[Future[Any]]") -> None:
    for future in futures:
        future.result(WITHIN_S)
