"""List the least rights of each process and command, as a table or for ``kafka-acls.sh``.

What a process needs follows from the contract (`contract.cluster.needs`), what a command needs
stands here. A test runs all processes on a broker with an authorizer that grants exactly this.
"""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
from rich.table import Table

from contract.cluster.needs import (
    OPERATOR_GROUP,
    Needs,
    Right,
    Rights,
    group_of,
    needs_of,
    needs_outside,
)
from contract.wire.topics import (
    HOTTEST_VIDEOS,
    IMPRESSIONS,
    ITEM_VECTORS,
    MODEL_BUNDLES,
    RECOMMENDATION_REQUESTS,
    RECOMMENDATIONS,
    SEARCH_EVENTS,
    SIMILAR_VIDEOS,
    TOPICS,
    USER_DELETIONS,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
    WINDOWS,
    Layout,
    Topic,
)

PROCESSES = ("streams", "trainer", "index_sync")
SIMULATE_GROUP = "nextwatch-simulate"
GATEWAY_GROUP = "nextwatch-gateway"
_ASKS = frozenset({Right.DESCRIBE})
_READS = frozenset({Right.READ})
_WRITES = frozenset({Right.WRITE})
_BY_USER = [topic for topic in TOPICS if topic.key_field == "user_id"]
_DEAD_LETTERED = [topic for topic in TOPICS if topic.dead_lettered_by]


class Grant(msgspec.Struct, frozen=True):
    """Rights on one resource, as Kafka's access control has them."""

    app: str
    resource: str
    name: str
    rights: list[str]


def all_needs(layout: Layout) -> list[Needs]:
    """Return the needs of every process, command and outside application."""
    return [
        *(needs_of(app, layout) for app in PROCESSES),
        *needs_outside(layout),
        topics_needs(layout),
        doctor_needs(layout),
        letters_needs(layout, is_replay=True),
        erase_needs(layout),
        skew_needs(layout),
        why_needs(layout),
        models_needs(layout, is_change=True),
        batch_needs(layout),
        feed_needs(layout),
        gateway_needs(layout),
        console_needs(layout),
        *repartition_needs(layout),
    ]


def topics_needs(layout: Layout) -> Needs:
    """Return what `nextwatch topics` needs; AlterConfigs includes DescribeConfigs."""
    rights = frozenset({Right.CREATE, Right.DESCRIBE, Right.ALTER_CONFIGS})
    return Needs("topics", dict.fromkeys(sorted([*_names(TOPICS, layout), *_dlqs(layout)]), rights))


def doctor_needs(layout: Layout) -> Needs:
    """Return what `nextwatch doctor` needs: it looks at all topics, and reads two of them."""
    looks = frozenset({Right.DESCRIBE, Right.DESCRIBE_CONFIGS})
    rights: dict[str, Rights] = dict.fromkeys([*_names(TOPICS, layout), *_dlqs(layout)], looks)
    for topic in (VIDEO_UPLOADS, MODEL_BUNDLES):
        rights[layout.name(topic)] = _READS | {Right.DESCRIBE_CONFIGS}
    return _operator("doctor", rights, layout)


def letters_needs(layout: Layout, *, is_replay: bool) -> Needs:
    """Return what `nextwatch dlq` needs: `replay` also writes to the source topics."""
    rights: dict[str, Rights] = dict.fromkeys(_dlqs(layout), _READS)
    if is_replay:
        rights |= dict.fromkeys(_names(_DEAD_LETTERED, layout), _WRITES)
        compacted = [topic for topic in _DEAD_LETTERED if topic.cleanup == "compact"]
        rights |= dict.fromkeys(_names(compacted, layout), _READS | _WRITES)
    return _operator("dlq", rights, layout)


def erase_needs(layout: Layout) -> Needs:
    """Return what `nextwatch erase` needs: it reads every topic that may name a user."""
    looks = _READS | {Right.DESCRIBE_CONFIGS}
    rights: dict[str, Rights] = dict.fromkeys([*_names(_BY_USER, layout), *_dlqs(layout)], looks)
    rights[layout.name(USER_DELETIONS)] = looks | _WRITES
    return _operator("erase", rights, layout)


def skew_needs(layout: Layout) -> Needs:
    """Return what `nextwatch skew` needs: it reads events, answers, vectors and the feature log."""
    read = [*_BY_USER, ITEM_VECTORS]
    rights: dict[str, Rights] = dict.fromkeys(_names(read, layout), _READS)
    del rights[layout.name(WINDOWS)]
    return _operator("skew", rights, layout)


def why_needs(layout: Layout) -> Needs:
    """Return what `nextwatch why` needs: it reads what tells of one recommendation."""
    read = [*_BY_USER, VIDEO_UPLOADS, MODEL_BUNDLES]
    return _operator("why", dict.fromkeys(_names(read, layout), _READS), layout)


def models_needs(layout: Layout, *, is_change: bool) -> Needs:
    """Return what `nextwatch models` needs: `rollback` and `promote` also announce."""
    rights = _READS | _WRITES if is_change else _READS
    return _operator("models", {layout.name(MODEL_BUNDLES): rights}, layout)


def batch_needs(layout: Layout) -> Needs:
    """Return what `nextwatch batch` needs: it reads windows and catalogue, and publishes lists."""
    read = (WINDOWS, VIDEO_UPLOADS, ITEM_VECTORS, MODEL_BUNDLES)
    rights: dict[str, Rights] = dict.fromkeys(_names(read, layout), _READS)
    rights |= dict.fromkeys(_names((SIMILAR_VIDEOS, HOTTEST_VIDEOS), layout), _READS | _WRITES)
    return _operator("batch", rights, layout)


def feed_needs(layout: Layout, *, is_past: bool = True) -> Needs:
    """Return what `nextwatch simulate` and `replay` need; `replay --histories` writes windows."""
    events = (WATCH_EVENTS, SEARCH_EVENTS, IMPRESSIONS, VIDEO_UPLOADS)
    rights: dict[str, Rights] = dict.fromkeys(_names(events, layout), _WRITES)
    rights[layout.name(RECOMMENDATIONS)] = _READS
    if is_past:
        rights[layout.name(WINDOWS)] = _WRITES
    return Needs("simulate", rights, layout.prefix + SIMULATE_GROUP, _ASKS)


def gateway_needs(layout: Layout) -> Needs:
    """Return what `nextwatch gateway` needs: it sends for players and creators, and reads."""
    sent = (WATCH_EVENTS, SEARCH_EVENTS, IMPRESSIONS, RECOMMENDATION_REQUESTS, VIDEO_UPLOADS)
    read = (RECOMMENDATIONS, SIMILAR_VIDEOS, HOTTEST_VIDEOS)
    rights: dict[str, Rights] = dict.fromkeys(
        _names(sent, layout), _WRITES | {Right.DESCRIBE_CONFIGS}
    )
    rights |= dict.fromkeys(_names(read, layout), _READS | {Right.DESCRIBE_CONFIGS})
    return Needs("gateway", dict(sorted(rights.items())), gateway_group(layout), _ASKS)


def console_needs(layout: Layout) -> Needs:
    """Return what `nextwatch console` needs: what the gateway and the operator's commands do."""
    parts = (
        gateway_needs(layout),
        why_needs(layout),
        models_needs(layout, is_change=True),
        letters_needs(layout, is_replay=True),
        erase_needs(layout),
    )
    rights: dict[str, Rights] = defaultdict(frozenset)
    for part in parts:
        for name, wanted in part.topics.items():
            rights[name] |= wanted
    return _operator("console", dict(rights), layout)


def gateway_group(layout: Layout) -> str:
    """Return the group id of the gateway, which never joins it."""
    return layout.prefix + GATEWAY_GROUP


def repartition_needs(layout: Layout) -> list[Needs]:
    """Return what `nextwatch repartition` needs: it adds partitions and moves the windows.

    It asks two groups how far they have read.
    """
    adds = frozenset({Right.ALTER})
    dlqs = [layout.dlq_name(topic) for topic in _BY_USER if topic.dead_lettered_by]
    rights: dict[str, Rights] = dict.fromkeys([*_names(_BY_USER, layout), *dlqs], adds)
    read = [topic for topic in _BY_USER if "streams" in topic.consumers]
    rights |= dict.fromkeys(_names(read, layout), adds | _READS)
    rights[layout.name(WINDOWS)] = adds | _READS | _WRITES
    return [
        Needs("repartition", rights, layout.streams_group, _ASKS),
        Needs("repartition", {}, group_of("trainer", layout), _ASKS),
    ]


def operator_group(layout: Layout) -> str:
    """Return the group id of the operator's commands, which never join it."""
    return layout.prefix + OPERATOR_GROUP


def grants(needs: Iterable[Needs]) -> list[Grant]:
    """Return the rights of *needs* one by one."""
    found = []
    for each in needs:
        for name, rights in sorted(each.topics.items()):
            found.append(Grant(each.app, "topic", name, sorted(rights)))
        if each.group:
            found.append(Grant(each.app, "group", each.group, sorted(each.group_rights)))
    return found


def table(given: Sequence[Grant]) -> Table:
    """Return *given* as a table."""
    drawn = Table("for", "on", "name", "rights", box=None, pad_edge=False)
    for grant in given:
        drawn.add_row(grant.app, grant.resource, grant.name, ", ".join(grant.rights))
    return drawn


def commands(given: Sequence[Grant], *, bootstrap_servers: str, principal: str = "") -> list[str]:
    """Return the commands that grant the rights, to *principal* or a user named like the app."""
    alike: dict[tuple[str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    for grant in given:
        alike[grant.app, grant.resource, tuple(grant.rights)].append(grant.name)
    lines = []
    for (app, resource, rights), names in alike.items():
        words = ["kafka-acls.sh", "--bootstrap-server", bootstrap_servers, "--add"]
        words += ["--allow-principal", principal or f"User:{app}"]
        words += [word for right in rights for word in ("--operation", right)]
        words += [word for name in names for word in (f"--{resource}", name)]
        lines.append(shlex.join(words))
    return lines


def _operator(app: str, rights: dict[str, Rights], layout: Layout) -> Needs:
    return Needs(app, dict(sorted(rights.items())), operator_group(layout), _ASKS)


def _names(topics: Iterable[Topic], layout: Layout) -> list[str]:
    return [layout.name(topic) for topic in topics]


def _dlqs(layout: Layout) -> list[str]:
    return [layout.dlq_name(topic) for topic in _DEAD_LETTERED]
