"""What must be true of the cluster before a worker takes part in it.

A worker that starts with the wrong partition count would look for users in partitions where
nobody puts them, and one without its topics would wait for ever. Both end at once, with one
line that says what to do.
"""

from collections.abc import Mapping

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from contract.errors import BrokerUnavailable, ContractError
from contract.kafka import client_config
from contract.settings import KafkaSettings
from contract.topics import TOPICS, Layout

APP = "streams"
PATIENCE_S = 5.0
_REMEDY = "`nextwatch topics` creates them"
_REMEDY_FOR_PARTITIONS = "set NEXTWATCH_KAFKA_USER_PARTITIONS and NEXTWATCH_KAFKA_VIDEO_PARTITIONS to what the cluster has"


def check_cluster(kafka: KafkaSettings, *, patience_s: float = PATIENCE_S) -> None:
    """Return when the broker has every topic of streams, with the partitions of the settings.

    Raises:
        BrokerUnavailable: the broker did not answer within *patience_s*.
        ContractError: the connection settings are refused, or topics are missing or have other
            partition counts.
    """
    try:
        admin = AdminClient(client_config(kafka) | {"log_level": 0})
    except KafkaException as error:
        raise ContractError(f"the settings of Kafka are refused: {error.args[0].str()}") from error
    try:
        listed = admin.list_topics(timeout=patience_s).topics
    except KafkaException as error:
        raise BrokerUnavailable(
            f"no Kafka broker answered within {patience_s:.0f} s: start it, or name another by "
            "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS (and check the security settings)"
        ) from error
    differences = layout_differences(
        kafka.layout, {name: len(topic.partitions) for name, topic in listed.items()}
    )
    if differences:
        raise ContractError("; ".join(differences))


def layout_differences(layout: Layout, found: Mapping[str, int]) -> list[str]:
    """Return what is wrong with *found*, the partition counts by topic, in sentences."""
    wanted = wanted_partitions(layout)
    missing = sorted(wanted.keys() - found.keys())
    missing_words = f"missing topics: {', '.join(missing)} ({_REMEDY})"
    others = [
        f"{name} has {found[name]}, not {num_wanted}"
        for name, num_wanted in sorted(wanted.items())
        if found.get(name, num_wanted) != num_wanted
    ]
    others_words = f"partitions: {', '.join(others)} ({_REMEDY_FOR_PARTITIONS})"
    return [missing_words] * bool(missing) + [others_words] * bool(others)


def wanted_partitions(layout: Layout) -> dict[str, int]:
    """Return the partition count of each topic that streams reads or writes, by full name."""
    wanted = {}
    for topic in TOPICS:
        if APP in (*topic.producers, *topic.consumers):
            wanted[layout.name(topic)] = layout.num_partitions(topic)
        if topic.dead_lettered_by == APP:
            wanted[layout.dlq_name(topic)] = layout.num_partitions(topic)
    return wanted
