"""Check topics, partitions and clocks on the broker; nothing is changed and nothing is written."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not by name
    AdminClient,
    OffsetSpec,
)

from contract.cluster.cluster import FoundTopic
from contract.cluster.topic_settings import TIMESTAMPS
from contract.cluster.trouble import count_remedy
from contract.process.clock import Clock
from contract.wire.topics import TOPICS, Layout
from nextwatch.doctor.diagnosis import Diagnosis, PartHealth
from nextwatch.operate.when import shown
from nextwatch.topics.findings import Finding, Outcome

MOST_SKEW_MS = 1_000
"""Clocks that differ by more are wrong; NTP keeps them within a few milliseconds."""
FRESH_MS = 5_000
"""A record so young shows that this clock is not ahead by more."""
_NTP = "run NTP (chrony, systemd-timesyncd) on every machine"
_BY_BROKER = "LogAppendTime"
_GRACE_S = 1.0
"""For an answer that librdkafka gives up on by itself, with an error that says more."""


def topic_diagnoses(findings: Sequence[Finding]) -> Iterator[Diagnosis]:
    """Yield what `nextwatch topics --check` finds, but for partition counts."""
    others = [finding for finding in findings if finding.what != "partitions"]
    for finding in others:
        told = f"{finding.what} is {finding.found or 'missing'}, wanted {finding.wanted}"
        if finding.is_bad:
            remedy = finding.remedy.replace("run it without --check", "run `nextwatch topics`")
            yield _of_topic(finding.topic, PartHealth.WRONG, told, remedy)
        elif finding.outcome is Outcome.NOTED:
            noted = f"{finding.what} is {finding.found}"
            yield _of_topic(finding.topic, PartHealth.NOTED, noted, finding.remedy)
    unseen = sum(finding.outcome is Outcome.NOT_CHECKED for finding in others)
    if unseen:
        remedy = (
            "the broker does not tell them: the right DescribeConfigs is missing, or it is none"
        )
        yield _of_topic(
            "settings", PartHealth.NOT_CHECKED, f"{unseen} properties are not known", remedy
        )
    same = sum(finding.outcome is Outcome.SAME for finding in others)
    yield _of_topic("contract", PartHealth.OK, f"{same} properties are as the contract wants them")


def _of_topic(what: str, health: PartHealth, found: str, remedy: str = "") -> Diagnosis:
    return Diagnosis(check="topics", what=what, health=health, found=found, remedy=remedy)


def partition_diagnoses(layout: Layout, found: Mapping[str, FoundTopic]) -> Iterator[Diagnosis]:
    """Yield whether topics of one key have the partitions of the settings, each with a leader."""
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    wanted: dict[str, int] = {}
    for topic in TOPICS:
        wanted[topic.key_field] = layout.num_partitions(topic)
        names = [layout.name(topic)] + ([layout.dlq_name(topic)] if topic.dead_lettered_by else [])
        for name in names:
            if name in found and not found[name].is_denied:
                counts[topic.key_field][name] = found[name].num_partitions
    if not counts:
        yield _of_partitions("topics", PartHealth.NOT_CHECKED, "none of them is there")
    for key, of_key in counts.items():
        strays = {name: count for name, count in of_key.items() if count != wanted[key]}
        what = f"topics by {key}"
        if strays:
            listed = ", ".join(f"{name} has {count}" for name, count in sorted(strays.items()))
            yield _of_partitions(
                what,
                PartHealth.WRONG,
                f"{listed}; the settings say {wanted[key]}",
                count_remedy(key, set(of_key.values())),
            )
        else:
            yield _of_partitions(
                what, PartHealth.OK, f"{len(of_key)} topics have {wanted[key]} partitions each"
            )
    for name, topic_found in sorted(found.items()):
        if topic_found.leaderless:
            numbers = ", ".join(map(str, topic_found.leaderless))
            yield _of_partitions(
                name,
                PartHealth.WRONG,
                f"partitions without a leader: {numbers}",
                "start the brokers that have their replicas",
            )


def _of_partitions(what: str, health: PartHealth, found: str, remedy: str = "") -> Diagnosis:
    return Diagnosis(check="partitions", what=what, health=health, found=found, remedy=remedy)


def newest_times(
    admin: AdminClient, found: Mapping[str, FoundTopic], *, within_s: float
) -> dict[str, int]:
    """Return by topic the greatest timestamp of its records, as the broker knows it.

    No record is read. Topics without records give nothing, nor does what the broker does not tell
    in time.
    """
    newest = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]  # confluent-kafka's own
    places = [
        TopicPartition(name, number)
        for name, topic in found.items()
        for number in range(topic.num_partitions)
    ]
    if not places:
        return {}
    times: dict[str, int] = {}
    deadline_s = monotonic() + within_s + _GRACE_S
    answers = admin.list_offsets(dict.fromkeys(places, newest), request_timeout=within_s)
    for place, answer in answers.items():
        try:
            told = answer.result(max(0.0, deadline_s - monotonic()))
        except (KafkaException, TimeoutError):
            continue
        if told.timestamp > 0:
            times[place.topic] = max(times.get(place.topic, 0), told.timestamp)
    return times


def clock_diagnoses(
    layout: Layout, found: Mapping[str, FoundTopic], times: Mapping[str, int], now_ms: int
) -> Iterator[Diagnosis]:
    """Yield how this machine's clock stands to those that stamped the newest records.

    A record is stamped by its producer, or by the broker where the topic says so. Players' clocks
    are not ours, so of topics from outside only the broker's stamps count.
    """
    trusted = {layout.name(topic) for topic in TOPICS if not topic.is_from_outside} | {
        name
        for name, topic in found.items()
        if (topic.settings or {}).get(TIMESTAMPS) == _BY_BROKER
    }
    known = {name: at_ms for name, at_ms in times.items() if name in trusted}
    if not known:
        yield _of_clock(
            "newest record",
            PartHealth.NOT_CHECKED,
            "the broker tells of no record that it or our processes stamped",
        )
        return
    name = max(known, key=lambda each: known[each])
    stamps = (found[name].settings or {}).get(TIMESTAMPS) if name in found else None
    whose = "the broker" if stamps == _BY_BROKER else "the process that wrote it"
    ahead_ms = known[name] - now_ms
    if ahead_ms > MOST_SKEW_MS:
        yield _of_clock(
            "newest record",
            PartHealth.WRONG,
            f"{name} has a record of {shown(known[name])}, stamped by {whose}: {ahead_ms / 1_000:.1f} s "
            "ahead of this machine",
            _NTP,
        )
    elif -ahead_ms <= FRESH_MS:
        yield _of_clock(
            "newest record",
            PartHealth.OK,
            f"{name}, stamped by {whose}: {-ahead_ms} ms old by this machine's clock",
        )
    else:
        yield _of_clock(
            "newest record",
            PartHealth.NOT_CHECKED,
            f"this clock is not behind; the newest record ({name}) is {-ahead_ms / 1_000:.0f} s old, so "
            "whether it is ahead cannot be told: run it again while events come",
        )


def index_clock_diagnosis(date_ms: int | None, now_ms: int) -> Diagnosis:
    """Return how this clock stands to the index's, which tells whole seconds."""
    what = "index"
    if date_ms is None:
        return _of_clock(what, PartHealth.NOT_CHECKED, "the index does not tell its time")
    skew_ms = date_ms - now_ms
    is_alike = -MOST_SKEW_MS - 1_000 <= skew_ms <= MOST_SKEW_MS
    told = f"its clock is {abs(skew_ms) / 1_000:.1f} s {'ahead' if skew_ms > 0 else 'behind'}"
    if is_alike:
        return _of_clock(
            what, PartHealth.OK, "its clock is within a second or two of this machine's"
        )
    return _of_clock(what, PartHealth.WRONG, f"{told} of this machine's", _NTP)


def _of_clock(what: str, health: PartHealth, found: str, remedy: str = "") -> Diagnosis:
    return Diagnosis(check="clock", what=what, health=health, found=found, remedy=remedy)


TimesOf = Callable[[], Mapping[str, int]]


def clocks(
    layout: Layout, found: Mapping[str, FoundTopic], times_of: TimesOf, clock: Clock
) -> Iterator[Diagnosis]:
    """Ask for the newest times, then look at this machine's clock, and compare."""
    times = times_of()
    yield from clock_diagnoses(layout, found, times, clock())
