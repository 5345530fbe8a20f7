"""Create the topics of the contract on any Kafka, and say what differs from it.

One rule: what holds data is never harmed. A missing topic is created and a differing setting
is set right, but a partition count is only reported: adding partitions moves keys, so one
user's history would stand on two partitions.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from enum import StrEnum
from time import monotonic, sleep
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not by name
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from contract.dead_letters import MAX_KEPT_BYTES
from contract.errors import BrokerUnavailable
from contract.kafka import client_config
from contract.preflight import partition_counts
from contract.settings import KafkaSettings
from contract.topics import DAY_MS, NOT_AFTER, TOPICS, Layout, Topic

HEADROOM_BYTES = 16_384  # key, headers and the frame of a batch
DLQ_RETENTION_MS = 7 * DAY_MS
_LEAST_BATCH_BYTES = 1_048_588
_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class WantedTopic:
    """A topic as it should be on one cluster: its full name, partitions and settings."""

    name: str
    num_partitions: int
    config: Mapping[str, str]


class Outcome(StrEnum):
    """What came of one comparison; only `MISSING` and `DIFFERS` are left to a person."""

    SAME = "same"
    CREATED = "created"
    MENDED = "mended"
    MISSING = "missing"
    DIFFERS = "differs"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One property of one topic: what the contract wants, what the broker has."""

    topic: str
    what: str
    wanted: str
    found: str
    outcome: Outcome
    remedy: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether the cluster still differs from the contract here."""
        return self.outcome in {Outcome.MISSING, Outcome.DIFFERS}


def wanted_topics(layout: Layout) -> list[WantedTopic]:
    """Return every topic of the contract, each with the dead-letter topic beside it."""
    wanted: list[WantedTopic] = []
    for topic in TOPICS:
        num_partitions = layout.num_partitions(topic)
        wanted.append(WantedTopic(layout.name(topic), num_partitions, _config(topic)))
        if topic.dead_lettered_by is not None:
            wanted.append(WantedTopic(layout.dlq_name(topic), num_partitions, _dlq_config()))
    return wanted


def reconcile(settings: KafkaSettings, *, is_check: bool = False) -> list[Finding]:
    """Make the topics of the contract exist as wanted, and return all that was compared.

    With *is_check* nothing is changed. Running it again changes nothing either.

    Raises:
        BrokerUnavailable: the broker did not answer, or refused to create a topic.
        ContractError: the connection settings are refused.
    """
    known = partition_counts(settings)
    admin = AdminClient(client_config(settings) | {"log_level": 0})
    wanted = wanted_topics(settings.layout)
    missing = [topic for topic in wanted if topic.name not in known]
    findings = [
        _partitions_finding(topic, known[topic.name]) for topic in wanted if topic not in missing
    ]
    if is_check:
        findings += [_missing_finding(topic) for topic in missing]
    else:
        _create(admin, missing, replication_factor=settings.replication_factor)
        _await_topics(admin, missing)
        findings += [_created_finding(topic) for topic in missing]
    present = [topic for topic in wanted if topic.name in known]
    findings += _config_findings(admin, present, is_check=is_check)
    order = {topic.name: place for place, topic in enumerate(wanted)}
    return sorted(findings, key=lambda finding: order[finding.topic])


def delete_all(settings: KafkaSettings) -> None:
    """Delete every topic of the contract, for a caller who made them under a prefix of its own.

    Raises:
        BrokerUnavailable: the broker did not answer.
    """
    assert settings.topic_prefix, "only topics under a prefix are anybody's own"
    known = partition_counts(settings)
    admin = AdminClient(client_config(settings) | {"log_level": 0})
    names = [topic.name for topic in wanted_topics(settings.layout) if topic.name in known]
    if names:
        for future in admin.delete_topics(names, operation_timeout=_TIMEOUT_S).values():
            _error_of(future)


def _config(topic: Topic) -> dict[str, str]:
    """Return the settings of *topic*.

    ``max.message.bytes`` bounds a whole batch, not one event: below a megabyte, producers with
    default settings would be refused. The bound of one event is kept by `contract.decoding`.
    """
    most_bytes = max(_LEAST_BATCH_BYTES, topic.max_value_bytes + HEADROOM_BYTES)
    return {"cleanup.policy": topic.cleanup, "max.message.bytes": str(most_bytes), **topic.config}


def _dlq_config() -> dict[str, str]:
    most_bytes = max(_LEAST_BATCH_BYTES, MAX_KEPT_BYTES + HEADROOM_BYTES)
    return {
        "cleanup.policy": "delete",
        "max.message.bytes": str(most_bytes),
        "retention.ms": str(DLQ_RETENTION_MS),
    }


def _create(admin: AdminClient, missing: Sequence[WantedTopic], *, replication_factor: int) -> None:
    errors = _creation_errors(admin, missing, replication_factor)
    old = {n for n, error in errors.items() if error.code() == KafkaError.INVALID_CONFIG}
    if old:  # a broker before Kafka 3.6 does not know one of the settings
        again = [_without(NOT_AFTER, topic) for topic in missing if topic.name in old]
        errors = {name: error for name, error in errors.items() if name not in old}
        errors |= _creation_errors(admin, again, replication_factor)
    for name, error in errors.items():
        raise BrokerUnavailable(f"the broker did not create {name}: {error.str()}")


def _without(name: str, topic: WantedTopic) -> WantedTopic:
    return replace(topic, config={n: value for n, value in topic.config.items() if n != name})


def _creation_errors(
    admin: AdminClient, topics: Sequence[WantedTopic], replication_factor: int
) -> dict[str, KafkaError]:
    """Create *topics*, and return what went wrong, by name; one that exists is none of it."""
    if not topics:
        return {}
    new = [
        NewTopic(topic.name, topic.num_partitions, replication_factor, config=dict(topic.config))
        for topic in topics
    ]
    futures = admin.create_topics(new, operation_timeout=_TIMEOUT_S).items()
    errors = {name: _error_of(future) for name, future in futures}
    exists = KafkaError.TOPIC_ALREADY_EXISTS
    return {n: error for n, error in errors.items() if error and error.code() != exists}


def _await_topics(admin: AdminClient, topics: Sequence[WantedTopic]) -> None:
    """Wait until every partition of *topics* can be used: a broker answers before it leads them."""
    places = [
        TopicPartition(topic.name, number)
        for topic in topics
        for number in range(topic.num_partitions)
    ]
    deadline_s = monotonic() + _TIMEOUT_S
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # confluent-kafka's own
    while places:
        answers = admin.list_offsets(dict.fromkeys(places, latest))
        places = [place for place, future in answers.items() if _error_of(future) is not None]
        if places and monotonic() > deadline_s:
            raise BrokerUnavailable(f"the broker created {places[0].topic}, but does not serve it")
        if places:
            sleep(0.05)


def _partitions_finding(topic: WantedTopic, num_found: int) -> Finding:
    wanted, found = str(topic.num_partitions), str(num_found)
    if num_found == topic.num_partitions:
        return Finding(topic.name, "partitions", wanted, found, Outcome.SAME)
    remedy = (
        f"set NEXTWATCH_KAFKA_USER_PARTITIONS or NEXTWATCH_KAFKA_VIDEO_PARTITIONS to {found}, or "
        "stop all processes, delete the topic and run this again (its records are lost)"
    )
    return Finding(topic.name, "partitions", wanted, found, Outcome.DIFFERS, remedy)


def _missing_finding(topic: WantedTopic) -> Finding:
    wanted = f"{topic.num_partitions} partitions"
    return Finding(topic.name, "topic", wanted, "", Outcome.MISSING, "run it without --check")


def _created_finding(topic: WantedTopic) -> Finding:
    wanted = f"{topic.num_partitions} partitions"
    return Finding(topic.name, "topic", wanted, "", Outcome.CREATED)


def _config_findings(
    admin: AdminClient, topics: Sequence[WantedTopic], *, is_check: bool
) -> list[Finding]:
    before = _configs(admin, topics)
    strays = [topic for topic in topics if _difference(topic, before.get(topic.name))]
    refusals = {} if is_check else _set_configs(admin, strays, before)
    after = {} if is_check else _configs_once_set(admin, strays, refusals)
    findings = []
    for topic in topics:
        was, now = before.get(topic.name), after.get(topic.name)
        refusal = refusals.get(topic.name, "")
        findings += [_config_finding(topic, name, was, now, refusal) for name in topic.config]
    return findings


def _config_finding(
    topic: WantedTopic,
    name: str,
    was: Mapping[str, str] | None,
    now: Mapping[str, str] | None,
    refusal: str,
) -> Finding:
    wanted, found = topic.config[name], (was or {}).get(name, "")
    if _is_met(name, wanted, found):
        return Finding(topic.name, name, wanted, found, Outcome.SAME)
    if _is_met(name, wanted, (now or {}).get(name)):
        return Finding(topic.name, name, wanted, found, Outcome.MENDED)
    if not found:
        return Finding(topic.name, name, wanted, found, Outcome.NOT_CHECKED)
    remedy = refusal or "run it without --check"
    return Finding(topic.name, name, wanted, found, Outcome.DIFFERS, remedy)


def _difference(topic: WantedTopic, found: Mapping[str, str] | None) -> dict[str, str]:
    given = found or {}
    return {
        name: value
        for name, value in topic.config.items()
        if not _is_met(name, value, given.get(name))
        and not (name == NOT_AFTER and given and name not in given)  # it would be refused
    }


def _is_met(name: str, wanted: str, found: str | None) -> bool:
    """Return whether a setting is as wanted; who is stricter about the future may be."""
    if name == NOT_AFTER and found and found.isdecimal():
        return int(found) <= int(wanted)
    return found == wanted


def _configs(admin: AdminClient, topics: Iterable[WantedTopic]) -> dict[str, dict[str, str]]:
    """Return the settings of *topics*; a topic whose settings the broker won't tell is left out."""
    resources = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics]
    if not resources:
        return {}
    configs: dict[str, dict[str, str]] = {}
    for resource, future in admin.describe_configs(resources, request_timeout=_TIMEOUT_S).items():
        if _error_of(future) is None:
            entries = future.result().values()
            configs[resource.name] = {entry.name: entry.value for entry in entries}
    return configs


def _configs_once_set(
    admin: AdminClient, topics: Sequence[WantedTopic], refusals: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Return the settings of *topics* once the broker shows what it was told and did not refuse."""
    told = [topic for topic in topics if topic.name not in refusals]
    deadline_s = monotonic() + _TIMEOUT_S
    found = _configs(admin, topics)
    while any(_difference(topic, found.get(topic.name)) for topic in told):
        if monotonic() > deadline_s:
            break
        sleep(0.05)
        found = _configs(admin, topics)
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
    refusals = {resource.name: _error_of(future) for resource, future in futures.items()}
    return {name: error.str() for name, error in refusals.items() if error is not None}


def _error_of(future: "Future[Any]") -> KafkaError | None:
    error = future.exception(timeout=_TIMEOUT_S + 5)
    if error is None:
        return None
    if isinstance(error, KafkaException):
        reason: KafkaError = error.args[0]
        return reason
    raise error
