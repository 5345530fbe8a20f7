"""Compare a topic with the contract: one finding for each of its properties."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from contract.cluster.cluster import FoundTopic
from contract.cluster.topic_settings import (
    IN_SYNC_REMEDY,
    MIN_INSYNC,
    is_met,
    remarks,
    unmet_in_sync,
)

_REPLICAS = "replicas"


@dataclass(frozen=True, slots=True)
class WantedTopic:
    """A topic as it should be on one cluster: its full name, partitions and settings."""

    name: str
    num_partitions: int
    config: Mapping[str, str]
    key_field: str = ""


class Outcome(StrEnum):
    """The result of one comparison; only `MISSING` and `DIFFERS` need a person.

    `NOTED` is an operator's own choice that has consequences; its remedy says which.
    """

    SAME = "same"
    NOTED = "noted"
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


def layout_findings(
    topic: WantedTopic, found: FoundTopic, num_default: int | None, remedy: str
) -> list[Finding]:
    """Return the findings on partitions and replicas, and on settings that are not ours to set.

    *num_default* is how many replicas a topic should have, None where the broker does not tell; the
    *remedy* is for another partition count.
    """
    findings = [_partitions_finding(topic, found.num_partitions, remedy)]
    if num_default is None:
        clusters = "the cluster's"
        given = str(found.num_replicas)
        findings.append(Finding(topic.name, _REPLICAS, clusters, given, Outcome.NOT_CHECKED))
    else:
        findings.append(_replicas_finding(topic, found.num_replicas, num_default))
    settings = found.settings or {}
    if least := unmet_in_sync(settings, found.num_replicas):
        wanted = f"at most {found.num_replicas}"
        findings.append(
            Finding(topic.name, MIN_INSYNC, wanted, least, Outcome.DIFFERS, IN_SYNC_REMEDY)
        )
    for name, reason in remarks(settings).items():
        findings.append(Finding(topic.name, name, "", settings[name], Outcome.NOTED, reason))
    return findings


def _replicas_finding(topic: WantedTopic, num_found: int, num_wanted: int) -> Finding:
    wanted, found = str(num_wanted), str(num_found)
    if num_found >= num_wanted:
        return Finding(topic.name, _REPLICAS, wanted, found, Outcome.SAME)
    remedy = "add some by `kafka-reassign-partitions.sh`"
    return Finding(topic.name, _REPLICAS, wanted, found, Outcome.DIFFERS, remedy)


def _partitions_finding(topic: WantedTopic, num_found: int, remedy: str) -> Finding:
    wanted, found = str(topic.num_partitions), str(num_found)
    if num_found == topic.num_partitions:
        return Finding(topic.name, "partitions", wanted, found, Outcome.SAME)
    return Finding(topic.name, "partitions", wanted, found, Outcome.DIFFERS, remedy)


def missing_finding(topic: WantedTopic) -> Finding:
    """Return the finding that *topic* does not exist, and is not to be created now."""
    wanted = f"{topic.num_partitions} partitions"
    return Finding(topic.name, "topic", wanted, "", Outcome.MISSING, "run it without --check")


def created_finding(topic: WantedTopic) -> Finding:
    """Return the finding that *topic* was created."""
    wanted = f"{topic.num_partitions} partitions"
    return Finding(topic.name, "topic", wanted, "", Outcome.CREATED)


def config_finding(
    topic: WantedTopic,
    name: str,
    was: Mapping[str, str] | None,
    now: Mapping[str, str] | None,
    refusal: str,
) -> Finding:
    """Return the finding on the setting *name*, which had a value in *was* and has one in *now*.

    A *refusal* is what the broker said when it was to be set.
    """
    wanted, found = topic.config[name], (was or {}).get(name, "")
    if is_setting_met(name, wanted, found):
        return Finding(topic.name, name, wanted, found, Outcome.SAME)
    if is_setting_met(name, wanted, (now or {}).get(name)):
        return Finding(topic.name, name, wanted, found, Outcome.MENDED)
    if not found:
        return Finding(topic.name, name, wanted, found, Outcome.NOT_CHECKED)
    remedy = refusal or "run it without --check"
    return Finding(topic.name, name, wanted, found, Outcome.DIFFERS, remedy)


def is_setting_met(name: str, wanted: str, found: str | None) -> bool:
    """Return whether the broker reports the setting *name* with a sufficient value."""
    return bool(found) and is_met(name, wanted, found)  # type: ignore[arg-type]
