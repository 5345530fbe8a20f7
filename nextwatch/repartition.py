"""Change the partition count of all topics keyed by user, and move the windows with the users.

Kafka places a key by the number of partitions, so with another number the events of most users come
on other partitions than before, while their windows lie in the changelog where they were. In this
order, so that it may break off anywhere and be run again:

1. all topics keyed by user get the partitions that they lack;
2. each window that lies elsewhere is written to the partition of its user, merged with what is
   there already, and acknowledged;
3. only then its old place gets a tombstone: none where a window has changed in between.

With the present count it moves the windows that a producer with another hash has put elsewhere.

Nothing is ever without a copy. A seal does not say whose it is: every partition gets all of them.
Workers refuse to start in between, since counts or windows do not fit.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic, sleep

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not by name
    AdminClient,
    NewPartitions,
)

from contract.cluster.cluster import Cluster
from contract.cluster.preflight import Preflight
from contract.errors import BrokerUnavailable, ContractError
from contract.kafka.client import (
    client_config,
    error_of,
    failure,
)
from contract.kafka.outbox import Outgoing
from contract.kafka.records import Received
from contract.process.settings import KafkaSettings
from contract.wire.keys import partition_of
from contract.wire.topics import TOPICS, WINDOWS, Layout
from models.history.erasure import marker_key
from models.history.history import EMPTY, Window, WindowPolicy, merge
from nextwatch.acls import repartition_needs
from nextwatch.operate.scan import Scan
from nextwatch.operate.session import outbox_of
from nextwatch.operate.traces import window_in
from nextwatch.unread import unread
from streams.state.partition import marker_record, record_of

_SEAL_MARK = marker_key(b"")
_AT_ONCE = 500
_TIMEOUT_S = 30.0
_GRACE_S = 5.0

Read = Callable[[], Iterable[Received]]
Deliver = Callable[[list[Outgoing]], object]


@dataclass(slots=True)
class Inventory:
    """The seals in the changelog, and the offset of each user's last record by partition."""

    windows: dict[bytes, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    seals: dict[bytes, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    def note(self, record: Received) -> None:
        """Add *record*; records of a partition come in their order."""
        key = record.key or b""
        if key.startswith(_SEAL_MARK):
            sealed = window_in(record.value) if key != _SEAL_MARK else None
            if sealed is not None:
                known = self.seals[key].get(record.partition, 0)
                self.seals[key][record.partition] = max(known, sealed.erased_before_ms)
        elif record.value is None:
            self.windows[key].pop(record.partition, None)
        else:
            self.windows[key][record.partition] = record.offset

    def strays(self, count: int) -> dict[bytes, dict[int, int]]:
        """Return the users with a record where it does not belong with *count* partitions."""
        return {
            key: places
            for key, places in self.windows.items()
            if places.keys() - {partition_of(key, count)}
        }

    def lacking_seals(self, count: int) -> list[tuple[int, bytes, int]]:
        """Return the partition, key and time of each seal that one of *count* partitions lacks."""
        return [
            (number, key, newest_ms)
            for key, times_ms in self.seals.items()
            if (newest_ms := max(times_ms.values()))
            for number in range(count)
            if times_ms.get(number, 0) < newest_ms
        ]


def run(
    kafka: KafkaSettings, policy: WindowPolicy, count: int, *, is_check: bool = False
) -> Iterator[str]:
    """Bring all topics keyed by user to *count* partitions; yield lines on what is done.

    Raises:
        BrokerUnavailable: the broker does not answer.
        ContractError: it cannot be done, or not now.
    """
    layout = kafka.layout
    for needs in repartition_needs(layout):
        Preflight(kafka, needs).check_use()
    admin = AdminClient(client_config(kafka) | {"log_level": 0})
    cluster = Cluster(admin)
    counts = {name: each.num_partitions for name, each in cluster.topics(_topics(layout)).items()}
    _check_possible(counts, count)
    _check_stopped(cluster, layout, within_s=kafka.session_timeout_ms / 1000 + _GRACE_S)
    lacking = {name: found for name, found in sorted(counts.items()) if found < count}
    yield from unread(kafka, counts)
    for name, found in lacking.items():
        yield f"{name}: {found} partitions, {count} wanted"
    if lacking and not is_check:
        _grow(admin, cluster, lacking, count)
    # as streams reads it: a transaction that a stranger left open hides no window
    scan = Scan(kafka, monotonic=monotonic, group=layout.streams_group, is_committed=False)
    deliver = outbox_of(kafka).deliver
    moving = Move(lambda: scan.read([WINDOWS.name]), deliver, layout.name(WINDOWS), policy)
    num_moved = moving.run(count, is_check=is_check)
    would_be = "would be moved" if is_check else "moved"
    yield f"{num_moved} windows {would_be} to the partitions of their users"
    if not is_check:
        yield (
            f"set NEXTWATCH_KAFKA_USER_PARTITIONS={count} everywhere, delete the state directories of "
            "the streams workers, and start all processes"
        )


class Move:
    """Moves windows and seals within a changelog."""

    def __init__(self, read: Read, deliver: Deliver, topic: str, policy: WindowPolicy) -> None:
        """Move within *topic*; *read* gives all of it, and *deliver* returns once acknowledged."""
        self._read = read
        self._deliver = deliver
        self._topic = topic
        self._policy = policy

    def run(self, count: int, *, is_check: bool = False) -> int:
        """Move the windows that *count* partitions misplace; return how many were moved."""
        inventory = Inventory()
        for record in self._read():
            inventory.note(record)
        strays = inventory.strays(count)
        if is_check:
            return len(strays)
        self._send(
            Outgoing(self._topic, key, marker_record(time_ms), number)
            for number, key, time_ms in inventory.lacking_seals(count)
        )
        moved: set[bytes] = set()
        self._send(self._moved(strays, count, moved))
        self._send(
            Outgoing(self._topic, key, None, number)
            for key in moved
            for number in strays[key]
            if number != partition_of(key, count)
        )
        if num_left := len(strays) - len(moved):
            raise ContractError(
                f"{num_left} of {len(strays)} windows were not moved, since they changed meanwhile: "
                "stop all processes and run it again"
            )
        return len(strays)

    def _moved(
        self, strays: Mapping[bytes, Mapping[int, int]], count: int, moved: set[bytes]
    ) -> Iterator[Outgoing]:
        """Yield the window of each stray user as soon as all that there is of it was read.

        Into *moved* come the users of whom nothing else was there in this second reading.
        """
        found: dict[bytes, list[bytes]] = defaultdict(list)
        for record in self._read():
            key = record.key or b""
            places, home = strays.get(key, {}), partition_of(key, count)
            known = places.get(record.partition, -1)
            if places and record.partition != home and record.offset > known:
                moved.discard(key)  # a tombstone would delete what somebody wrote since
                found.pop(key, None)
            elif record.value is not None and record.offset == known:
                found[key].append(record.value)
                if len(found[key]) == len(places):
                    moved.add(key)
                    yield Outgoing(self._topic, key, self._merged(found.pop(key)), home)

    def _merged(self, values: list[bytes]) -> bytes | None:
        if len(values) == 1:
            return values[0]
        window: Window = EMPTY
        for value in values:
            part = window_in(value)
            if part is not None:  # a damaged one cannot be read anywhere
                window = merge(window, part, self._policy)
        return record_of(window)

    def _send(self, records: Iterable[Outgoing]) -> None:
        waiting: list[Outgoing] = []
        for record in records:
            waiting.append(record)
            if len(waiting) >= _AT_ONCE:
                self._deliver(waiting)
                waiting = []
        if waiting:
            self._deliver(waiting)


def _topics(layout: Layout) -> list[str]:
    by_user = [topic for topic in TOPICS if topic.key_field == "user_id"]
    dlqs = [layout.dlq_name(topic) for topic in by_user if topic.dead_lettered_by]
    return [layout.name(topic) for topic in by_user] + dlqs


def _check_possible(counts: Mapping[str, int], count: int) -> None:
    larger = [f"{name} has {found}" for name, found in sorted(counts.items()) if found > count]
    if larger:
        raise ContractError(
            f"partitions cannot be taken away, and {', '.join(larger)}: name a larger count; or name "
            "a new NEXTWATCH_KAFKA_TOPIC_PREFIX, run `nextwatch topics`, and replay the events"
        )


def _check_stopped(cluster: Cluster, layout: Layout, *, within_s: float) -> None:
    """Check that streams does not run; after a kill it is a member until its session ends."""
    deadline_s = monotonic() + within_s
    while members := cluster.group(layout.streams_group).members:
        if monotonic() > deadline_s:
            raise ContractError(f"stop all processes first: streams runs as {', '.join(members)}")
        sleep(0.5)


def _grow(admin: AdminClient, cluster: Cluster, lacking: Mapping[str, int], count: int) -> None:
    asked = [NewPartitions(name, count) for name in lacking]
    for name, future in admin.create_partitions(asked, request_timeout=_TIMEOUT_S).items():
        if (error := error_of(future, within_s=_TIMEOUT_S + 5)) is not None:
            raise failure(error, f"partitions of {name}")
    deadline_s = monotonic() + _TIMEOUT_S
    while any(
        found.num_partitions < count or found.leaderless
        for found in cluster.topics(lacking).values()
    ):
        if monotonic() > deadline_s:
            raise BrokerUnavailable("the broker added partitions, but does not serve them")
        sleep(0.1)
