"""List what is wrong with a cluster for one process, one line for each, with its remedy.

Pure: it compares what `contract.cluster.cluster` found with what `contract.cluster.needs` says.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from contract.cluster.cluster import FoundGroup, FoundTopic
from contract.cluster.needs import Needs, Right, Rights, topics_by_name
from contract.cluster.topic_settings import (
    CLEANUP,
    IN_SYNC_REMEDY,
    MAX_BYTES,
    MIN_INSYNC,
    dlq_settings,
    is_met,
    unmet_in_sync,
    wanted_settings,
)
from contract.process.settings import KafkaSettings
from contract.wire.topics import Layout, Topic

ASSIGNOR = "faust"
"""The assignor of every streams worker; with another one, the group has other members, too."""

_SESSION_MIN = "group.min.session.timeout.ms"
_SESSION_MAX = "group.max.session.timeout.ms"
_BY_HAND = (
    "partitions cannot be taken away, nor keys of videos moved: name a new "
    "NEXTWATCH_KAFKA_TOPIC_PREFIX, run `nextwatch topics`, and send the catalogue again"
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong.

    With *ends* a process that runs must not go on with it. What *passes* may be over by itself
    soon: a start that meets nothing else is worth another try.
    """

    text: str
    ends: bool = False
    passes: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """The answers of the broker."""

    topics: Mapping[str, FoundTopic] = field(default_factory=dict)
    group: FoundGroup = field(default_factory=FoundGroup)
    broker_settings: Mapping[str, str] = field(default_factory=dict)


def lacks(needs: Needs, found: Found, kafka: KafkaSettings) -> list[Trouble]:
    """Return the rights and the topics that *needs* lacks on the cluster that was *found*."""
    return [*_missing_rights(needs, found, kafka), *_missing_topics(needs, found)]


def troubles(needs: Needs, found: Found, kafka: KafkaSettings) -> list[Trouble]:
    """Return everything that *needs* lacks on the cluster that was *found*."""
    return [
        *lacks(needs, found, kafka),
        *_other_counts(needs, found, kafka.layout),
        *_bad_settings(needs, found, kafka.layout),
        *_leaderless(found),
        *_session_out_of_bounds(needs, found, kafka),
        *_other_assignor(needs, found),
    ]


def _missing_rights(needs: Needs, found: Found, kafka: KafkaSettings) -> Iterator[Trouble]:
    lacking: dict[Rights, list[str]] = defaultdict(list)
    for name, wanted in needs.topics.items():
        topic = found.topics.get(name)
        if topic is not None and (missing := _lacking(wanted, topic.rights, topic.is_denied)):
            lacking[missing].append(f"topic {name}")
    group = found.group
    if needs.group and (missing := _lacking(needs.group_rights, group.rights, group.is_denied)):
        lacking[missing].append(f"group {needs.group}")
    if lacking:
        told = "; ".join(
            f"{' and '.join(sorted(missing))} on {', '.join(at)}" for missing, at in lacking.items()
        )
        yield Trouble(
            f"{_user(kafka)} lacks the rights {told} (`nextwatch acls {needs.app}` prints all that "
            "are needed)"
        )


def _lacking(wanted: Rights, given: Rights | None, is_denied: bool) -> Rights:  # noqa: FBT001
    if is_denied:
        return wanted
    if given is None:
        return frozenset()
    implied = {Right.DESCRIBE} if given & {Right.READ, Right.WRITE, Right.ALTER} else frozenset()
    return wanted - given - implied


def _user(kafka: KafkaSettings) -> str:
    if kafka.sasl_username:
        return f"user {kafka.sasl_username}"
    if kafka.ssl_certificate_location:
        return f"the user of {kafka.ssl_certificate_location}"
    return "the anonymous user"


def _missing_topics(needs: Needs, found: Found) -> Iterator[Trouble]:
    if missing := sorted(needs.topics.keys() - found.topics.keys()):
        yield Trouble(f"missing topics: {', '.join(missing)} (`nextwatch topics` creates them)")


def _other_counts(needs: Needs, found: Found, layout: Layout) -> Iterator[Trouble]:
    known = topics_by_name(layout)
    by_key: dict[str, dict[str, int]] = defaultdict(dict)
    for name in needs.topics:
        topic = found.topics.get(name)
        if name in known and topic is not None and not topic.is_denied:
            by_key[known[name][0].key_field][name] = topic.num_partitions
    for key, counts in by_key.items():
        wanted = layout.num_partitions(next(t for t, _ in known.values() if t.key_field == key))
        others = {name: count for name, count in counts.items() if count != wanted}
        if others:
            told = ", ".join(f"{name} has {count}" for name, count in sorted(others.items()))
            remedy = count_remedy(key, counts.values())
            yield Trouble(f"partitions: {told}, not {wanted}: {remedy}", ends=True)


def count_remedy(key_field: str, counts: Iterable[int]) -> str:
    """Return the remedy for topics of one key whose partition *counts* differ from the setting."""
    by_count = Counter(counts)
    most = max(by_count)
    is_one = len(by_count) == 1
    if key_field == "user_id":
        if is_one:
            return (
                f"set NEXTWATCH_KAFKA_USER_PARTITIONS={most} if their users' windows were written "
                "so; `nextwatch repartition` moves them to a larger count"
            )
        return (
            f"stop all processes and run `nextwatch repartition {most}`, which brings all to {most}"
        )
    if key_field == "video_id" and is_one:
        return f"set NEXTWATCH_KAFKA_VIDEO_PARTITIONS={most} if they were created so"
    return _BY_HAND


def _bad_settings(needs: Needs, found: Found, layout: Layout) -> Iterator[Trouble]:
    known, written = topics_by_name(layout), set(needs.written)
    for name in needs.topics:
        topic = found.topics.get(name)
        if topic is None or topic.settings is None or name not in known:
            continue
        wanted = _checked(*known[name], is_written=name in written)
        for setting, value in wanted.items():
            given = topic.settings.get(setting)
            if given is not None and not is_met(setting, value, given):
                yield Trouble(
                    f"{name} has {setting}={given}, {_WHY[setting]} (`nextwatch topics` sets {value})"
                )
        if name in written and (least := unmet_in_sync(topic.settings, topic.num_replicas)):
            yield Trouble(
                f"{name} has {MIN_INSYNC}={least} and {topic.num_replicas} replicas: {IN_SYNC_REMEDY}"
            )


_WHY = {
    CLEANUP: "which loses records that are needed",
    MAX_BYTES: "less than its largest messages need",
}


def _checked(topic: Topic, is_dlq: bool, *, is_written: bool) -> dict[str, str]:  # noqa: FBT001
    """Return the settings without which a process cannot work, or loses what it keeps there."""
    wanted = dlq_settings() if is_dlq else wanted_settings(topic)
    needed = {CLEANUP: wanted[CLEANUP]}
    return needed | {MAX_BYTES: wanted[MAX_BYTES]} if is_written else needed


def _leaderless(found: Found) -> Iterator[Trouble]:
    without = [
        f"{name}/{number}" for name, topic in found.topics.items() for number in topic.leaderless
    ]
    if without:
        text = f"no broker leads {', '.join(without)}: start the brokers that have them"
        yield Trouble(text, passes=True)


def _session_out_of_bounds(needs: Needs, found: Found, kafka: KafkaSettings) -> Iterator[Trouble]:
    given = found.broker_settings
    if not needs.is_member or not {_SESSION_MIN, _SESSION_MAX} <= given.keys():
        return
    least, most = int(given[_SESSION_MIN]), int(given[_SESSION_MAX])
    if not least <= kafka.session_timeout_ms <= most:
        yield Trouble(session_text(kafka, f"{least} to {most}"))


def session_text(kafka: KafkaSettings, bounds: str) -> str:
    """Return the message for a session timeout that the broker does not accept."""
    return (
        f"NEXTWATCH_KAFKA_SESSION_TIMEOUT_MS={kafka.session_timeout_ms}: the broker accepts "
        f"{bounds} ({_SESSION_MIN} and {_SESSION_MAX}): set it between them"
    )


def _other_assignor(needs: Needs, found: Found) -> Iterator[Trouble]:
    group = found.group
    if needs.is_member and group.members and group.protocol not in {"", ASSIGNOR}:
        yield Trouble(
            f"the consumer group {needs.group} has members that use another assignor, "
            f'"{group.protocol}": {", ".join(sorted(set(group.members)))}: stop them, or give them '
            "another group.id",
            ends=True,
        )
