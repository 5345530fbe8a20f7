"""Create the topics of the contract on any Kafka, and report what differs from it.

One rule: what holds data is never harmed. A missing topic is created and a setting that is not
enough is set right; what an operator raised stays. A partition count is only reported: adding
partitions moves keys, so one user's history would stand on two partitions (`nextwatch repartition`
moves it). So is the number of replicas: adding some copies all records.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from time import monotonic, sleep

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not by name
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from contract.cluster.cluster import Cluster, FoundTopic
from contract.cluster.preflight import partition_counts
from contract.cluster.topic_settings import (
    MIN_INSYNC,
    dlq_settings,
    least_in_sync,
    wanted_settings,
)
from contract.cluster.trouble import count_remedy
from contract.errors import ContractError
from contract.kafka.client import client_config
from contract.process.settings import KafkaSettings
from contract.wire.topics import NOT_AFTER, TOPICS, Layout
from nextwatch.topics.creation import await_topics, create, described, request_error
from nextwatch.topics.findings import (
    Finding,
    Outcome,
    WantedTopic,
    config_finding,
    created_finding,
    is_setting_met,
    layout_findings,
    missing_finding,
)

CLUSTERS_OWN = -1
"""A number of replicas that means the cluster's default."""

_NEWS = {Outcome.MENDED, Outcome.DIFFERS, Outcome.NOTED}
"""What is worth a line beside the one that a topic was created."""

_DEFAULT_REPLICAS = "default.replication.factor"
_TIMEOUT_S = 60.0


def wanted_topics(layout: Layout) -> list[WantedTopic]:
    """Return every topic of the contract, each with the dead-letter topic beside it."""
    wanted: list[WantedTopic] = []
    for topic in TOPICS:
        num_partitions = layout.num_partitions(topic)
        key = topic.key_field
        wanted.append(WantedTopic(layout.name(topic), num_partitions, wanted_settings(topic), key))
        if topic.dead_lettered_by is not None:
            wanted.append(WantedTopic(layout.dlq_name(topic), num_partitions, dlq_settings(), key))
    return wanted


def reconcile(
    settings: KafkaSettings, *, is_check: bool = False, patience_s: float | None = None
) -> list[Finding]:
    """Make the topics of the contract exist as wanted, and return all that was compared.

    With *is_check* nothing is changed. Running it again changes nothing either.

    Raises:
        BrokerUnavailable: no broker answered within *patience_s*, or it refused to create a topic
            for a minute.
        ContractError: the connection settings are refused, or the right to create is missing.
    """
    partition_counts(settings, patience_s=patience_s)
    # a client of its own: librdkafka remembers for a while that a topic it described did not exist
    cluster = Cluster(_admin(settings))
    admin = _admin(settings)
    num_default = _num_replicas(settings, cluster)
    wanted = wanted_topics(settings.layout)
    found = cluster.topics([topic.name for topic in wanted])
    _check_described(found)
    missing = [_in_sync(topic, num_default or 0) for topic in wanted if topic.name not in found]
    created: dict[str, FoundTopic] = {}
    if is_check:
        findings = [missing_finding(topic) for topic in missing]
    else:
        create(admin, missing, replication_factor=settings.replication_factor)
        await_topics(admin, missing)
        created = described(Cluster(admin), missing)
        findings = [created_finding(topic) for topic in missing]
    known = found | created
    compared = _comparison(admin, wanted, known, num_default, is_check=is_check)
    findings += [each for each in compared if each.topic in found or each.outcome in _NEWS]
    order = {topic.name: place for place, topic in enumerate(wanted)}
    return sorted(findings, key=lambda finding: order[finding.topic])


def _comparison(
    admin: AdminClient,
    wanted: Iterable[WantedTopic],
    known: Mapping[str, FoundTopic],
    num_default: int | None,
    *,
    is_check: bool,
) -> list[Finding]:
    """Return what came of comparing the topics that are there, and set right what differs."""
    present = [
        _in_sync(topic, known[topic.name].num_replicas) for topic in wanted if topic.name in known
    ]
    counts = defaultdict(set)
    for topic in present:
        counts[topic.key_field].add(known[topic.name].num_partitions)
    findings = []
    for topic in present:
        remedy = count_remedy(topic.key_field, counts[topic.key_field])
        findings += layout_findings(topic, known[topic.name], num_default, remedy)
    before = {name: topic.settings for name, topic in known.items() if topic.settings is not None}
    return findings + _config_findings(admin, present, before, is_check=is_check)


def delete_all(settings: KafkaSettings) -> None:
    """Delete every topic of the contract, for a caller that created them under its own prefix.

    Raises:
        BrokerUnavailable: the broker did not answer.
    """
    assert settings.topic_prefix, "only topics under a prefix are anybody's own"
    known, admin = partition_counts(settings), _admin(settings)
    names = [topic.name for topic in wanted_topics(settings.layout) if topic.name in known]
    if names:
        for future in admin.delete_topics(names, operation_timeout=_TIMEOUT_S).values():
            request_error(future)


def _check_described(found: Mapping[str, FoundTopic]) -> None:
    if denied := sorted(name for name, topic in found.items() if topic.is_denied):
        raise ContractError(
            f"this user lacks the right Describe on {', '.join(denied)} (`nextwatch acls topics` "
            "prints all that are needed)"
        )


def _admin(settings: KafkaSettings) -> AdminClient:
    return AdminClient(client_config(settings) | {"log_level": 0})


def _num_replicas(settings: KafkaSettings, cluster: Cluster) -> int | None:
    """Return how many replicas a topic should have; None where the broker does not tell its own."""
    if settings.replication_factor != CLUSTERS_OWN:
        return settings.replication_factor
    told = cluster.broker_settings().get(_DEFAULT_REPLICAS)
    return None if told is None else int(told)


def _in_sync(topic: WantedTopic, num_replicas: int) -> WantedTopic:
    """Return *topic* with the replicas that have to have a record, where one is not enough."""
    least = least_in_sync(num_replicas)
    return replace(topic, config={**topic.config, MIN_INSYNC: str(least)}) if least > 1 else topic


def _config_findings(
    admin: AdminClient,
    topics: Sequence[WantedTopic],
    before: Mapping[str, Mapping[str, str]],
    *,
    is_check: bool,
) -> list[Finding]:
    strays = [topic for topic in topics if _difference(topic, before.get(topic.name))]
    refusals = {} if is_check else _set_configs(admin, strays, before)
    after = {} if is_check else _configs_once_set(admin, strays, refusals)
    findings = []
    for topic in topics:
        was, now = before.get(topic.name), after.get(topic.name)
        refusal = refusals.get(topic.name, "")
        findings += [config_finding(topic, name, was, now, refusal) for name in topic.config]
    return findings


def _difference(topic: WantedTopic, found: Mapping[str, str] | None) -> dict[str, str]:
    given = found or {}
    return {
        name: value
        for name, value in topic.config.items()
        if not is_setting_met(name, value, given.get(name))
        and not (name == NOT_AFTER and given and name not in given)  # it would be refused
    }


def _configs_once_set(
    admin: AdminClient, topics: Sequence[WantedTopic], refusals: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Return the settings of *topics* once the broker shows what it was told and did not refuse."""
    told = [topic for topic in topics if topic.name not in refusals]
    names, cluster = [topic.name for topic in topics], Cluster(admin)
    deadline_s = monotonic() + _TIMEOUT_S
    found = cluster.settings(ResourceType.TOPIC, names)
    while any(_difference(topic, found.get(topic.name)) for topic in told):
        if monotonic() > deadline_s:
            break
        sleep(0.05)
        found = cluster.settings(ResourceType.TOPIC, names)
    return found


def _set_configs(
    admin: AdminClient, topics: Iterable[WantedTopic], found: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """Set what differs, and return what the broker said against it, by topic."""
    resources = []
    for topic in topics:
        changes = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in _difference(topic, found.get(topic.name)).items()
        ]
        resources.append(
            ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=changes)
        )
    if not resources:
        return {}
    futures = admin.incremental_alter_configs(resources, request_timeout=_TIMEOUT_S)
    refusals = {resource.name: request_error(future) for resource, future in futures.items()}
    return {name: error.str() for name, error in refusals.items() if error is not None}
