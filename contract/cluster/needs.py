"""List what each process needs of a cluster: rights on its topics and on its consumer group.

One list for three readers: the preflight asks the broker for it, `nextwatch acls` prints it, and a
test grants exactly this. Kafka's Read and Write include Describe.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from contract.wire.topics import OUR_COMMANDS, OUR_PROCESSES, TOPICS, Layout, Topic

OPERATOR_GROUP = "nextwatch-operator"
_GROUPS = {"trainer": "nextwatch-trainer", "index_sync": "nextwatch-index-sync"}


class Right(StrEnum):
    """An operation of Kafka's access control, as ``kafka-acls.sh`` spells it."""

    READ = "Read"
    WRITE = "Write"
    CREATE = "Create"
    ALTER = "Alter"
    DESCRIBE = "Describe"
    DESCRIBE_CONFIGS = "DescribeConfigs"
    ALTER_CONFIGS = "AlterConfigs"


Rights = frozenset[Right]


@dataclass(frozen=True, slots=True)
class Needs:
    """The needs of one process or command: rights on topics, by full name, and on a group.

    ``written`` are the topics that it produces to. A member joins its ``group``; who is none only
    commits to it, or asks for its coordinator, as librdkafka always does.
    """

    app: str
    topics: Mapping[str, Rights]
    group: str = ""
    group_rights: Rights = field(default_factory=frozenset)
    is_member: bool = False

    @property
    def written(self) -> list[str]:
        """The topics that are produced to."""
        return [name for name, rights in self.topics.items() if Right.WRITE in rights]


def group_of(app: str, layout: Layout) -> str:
    """Return the one consumer group of the process *app*; no other deployment has its prefix."""
    return layout.streams_group if app == "streams" else layout.prefix + _GROUPS[app]


def needs_of(app: str, layout: Layout) -> Needs:
    """Return what the process *app* needs: streams, trainer or index_sync."""
    rights: dict[str, set[Right]] = defaultdict(set)
    for topic in TOPICS:
        if app in topic.consumers:
            rights[layout.name(topic)] |= {Right.READ, Right.DESCRIBE_CONFIGS}
        if app in topic.producers:
            rights[layout.name(topic)] |= {Right.WRITE, Right.DESCRIBE_CONFIGS}
        if app == topic.dead_lettered_by:
            rights[layout.dlq_name(topic)] |= {Right.WRITE, Right.DESCRIBE_CONFIGS}
    return Needs(
        app,
        {name: frozenset(wanted) for name, wanted in sorted(rights.items())},
        group_of(app, layout),
        frozenset({Right.READ}),
        is_member=app == "streams",
    )


def needs_outside(layout: Layout) -> list[Needs]:
    """Return what players, creators and other outside applications need on the topics.

    Which consumer groups they use is their own matter.
    """
    rights: dict[str, dict[str, Right]] = defaultdict(dict)
    for topic in TOPICS:
        for app in {*topic.producers} - OUR_PROCESSES - OUR_COMMANDS - {"the operator"}:
            rights[app][layout.name(topic)] = Right.WRITE
        for app in {*topic.consumers} - OUR_PROCESSES - {"console"}:
            rights[app][layout.name(topic)] = Right.READ
    return [
        Needs(app, {name: frozenset({right}) for name, right in sorted(wanted.items())})
        for app, wanted in sorted(rights.items())
    ]


def topics_by_name(layout: Layout) -> dict[str, tuple[Topic, bool]]:
    """Return each topic by full name, and whether the name is that of its dead letters."""
    found = {layout.name(topic): (topic, False) for topic in TOPICS}
    found |= {layout.dlq_name(topic): (topic, True) for topic in TOPICS if topic.dead_lettered_by}
    return found
