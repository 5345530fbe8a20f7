"""What changes under a running worker, or does not fit it, is told at once and ends it for good."""

import json
import os
import subprocess
import sys
from time import monotonic
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from benchmarks.stack.player import player_of
from benchmarks.stack.prefixed_stack import PrefixedStack, StackProcess
from benchmarks.stack.waiting import eventually
from contract.cluster.preflight import check_cluster
from contract.errors import ContractError
from contract.kafka.client import producer_config
from contract.kafka.outbox import Outbox, Outgoing
from contract.process.exit_codes import ExitCode
from contract.wire.topics import WINDOWS
from models.history.codec import decode
from nextwatch.embedded.process.plans import inherited
from nextwatch.embedded.process.ports import free_ports
from nextwatch.embedded.process.process import Child, Plan
from nextwatch.operate.scan import Scan
from nextwatch.topics.topics import reconcile
from streams.lifecycle.watchdog import Membership
from tests.support.brokers import broker_with
from tests.support.oracle import all_answered

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.long]

USERS = [f"u{number}" for number in range(40)]
OTHER_KEYS = ("video", "item", "model", "similar", "hottest")
"""How the names of topics begin that are not keyed by user."""


class Stack:
    """As much of a stack as a `Place` needs: a broker, and workers."""

    def __init__(self, broker, directory):
        self.bootstrap_servers = broker.bootstrap_servers
        self.directory = directory
        self.children = []
        self.env = {
            "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "NEXTWATCH_KAFKA_USER_PARTITIONS": "4",
            "NEXTWATCH_KAFKA_VIDEO_PARTITIONS": "1",
            "NEXTWATCH_KAFKA_SESSION_TIMEOUT_MS": "6000",
            "NEXTWATCH_STREAMS_SEARCH": "memory",
            "NEXTWATCH_PROCESS_BUNDLE_URL": directory.as_uri(),
        }

    def add_process(self, name, argv, env):
        log_path = self.directory / "logs" / f"{name}.log"
        log_path.parent.mkdir(exist_ok=True)
        child = Child(Plan(name, tuple(argv), inherited(os.environ) | env, log_path))
        self.children.append(child)
        child.start()
        return child


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A broker with Kafka's own defaults where the embedded one has others."""
    directory = tmp_path_factory.mktemp("cluster")
    settings = {"auto_create_topics_enable": "true", "group_min_session_timeout_ms": "6000"}
    with broker_with(directory, **settings) as broker:
        stack = Stack(broker, directory)
        yield stack
        for child in stack.children:
            child.kill()


@pytest.fixture
def place(stack):
    return PrefixedStack(stack, f"place-{uuid4().hex[:8]}-")


@pytest.fixture
def admin(stack):
    return AdminClient({"bootstrap.servers": stack.bootstrap_servers})


@pytest.fixture
def player(place):
    with player_of(place) as player:
        yield player


def ended(worker, *, within_s=30):
    """Wait until *worker* ends; return its exit code and the last line it said."""
    assert worker.child.wait_ended(within_s), worker.child.log_tail()
    return worker.child.exit_code, worker.child.log_tail().strip().splitlines()[-1]


def grow(admin, place, *names, count=6):
    """Add partitions to topics, as an operator would."""
    asked = [NewPartitions(place.prefix + name, count) for name in names]
    for future in admin.create_partitions(asked).values():
        future.result(10)


def committed(admin, place):
    """Return the offsets that streams committed, by topic and partition."""
    group = ConsumerGroupTopicPartitions(f"{place.prefix}nextwatch-streams")
    answer = admin.list_consumer_group_offsets([group])[group.group_id].result(10)
    return {(at.topic, at.partition): at.offset for at in answer.topic_partitions}


def windows(place):
    """Return the videos in each user's window, as the changelog has them in the end."""
    found = {}
    for record in Scan(place.kafka, monotonic=monotonic).read([WINDOWS.name]):
        at = record.partition, record.key.decode()
        if record.value is None:
            found.pop(at, None)
        else:
            found[at] = set(decode(record.value).video_ids)
    return found


def test_partitions_that_are_added_end_a_worker_within_seconds(place, admin, player):
    """It commits nothing of them, and refuses to start again until somebody decides."""
    worker = place.worker()
    worker.wait_ready()
    sent = {player.watch(user, "v1") for user in USERS}
    player.flush()
    assert eventually(lambda: all_answered(player, sent), within_s=30)

    grow(admin, place, "watch-events")
    code, last = ended(worker)
    again = place.worker()
    code_again, line = ended(again)

    assert code == code_again == ExitCode.MISCONFIGURED
    assert f"{place.prefix}watch-events has 6, not 4" in json.loads(last)["reason"]
    assert line.startswith("streams: ")
    assert "`nextwatch repartition 6`" in line
    assert max(number for _, number in committed(admin, place)) == 3


def test_a_partition_count_is_changed_by_one_command(place, admin, player):
    """Windows go with their users; the count they were written with is refused before and after."""
    worker = place.worker(name="before")
    worker.wait_ready()
    sent = {player.watch(user, "old") for user in USERS}
    player.flush()
    assert eventually(lambda: all_answered(player, sent), within_s=30)
    grow(admin, place, "watch-events")  # somebody began by hand
    ended(worker)
    env = inherited(os.environ) | place.env

    done = subprocess.run(
        [sys.executable, "-m", "nextwatch", "repartition", "6"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    six = {"NEXTWATCH_KAFKA_USER_PARTITIONS": "6"}
    refused = place.worker(name="before", env=six)
    code, line = ended(refused)
    # no rewind: where misplaced events are not refused, those of before would be folded again
    place.worker(name="after", env=six, REWIND_RECORDS=0).wait_ready()
    with player_of(place) as later:  # one that started before may place keys by four partitions
        later._partitions["user"] = 6
        sent = {later.watch(user, "new") for user in USERS}
        later.flush()
        assert eventually(lambda: all_answered(later, sent), within_s=30)

    assert code == ExitCode.MISCONFIGURED
    assert "were written with 4" in line
    found = windows(place)
    assert {user for _, user in found} == set(USERS)
    assert len(found) == len(USERS), "a user has two windows"
    assert all(videos == {"old", "new"} for videos in found.values())


def test_windows_of_another_count_are_refused_by_a_worker_with_an_empty_disk(place, admin, player):
    """All topics were grown by hand, and the setting was changed as a careless remedy says."""
    worker = place.worker()
    worker.wait_ready()
    sent = {player.watch(user, "v1") for user in USERS}
    player.flush()
    assert eventually(lambda: all_answered(player, sent), within_s=30)
    worker.child.terminate()
    ended(worker)
    by_user = [
        name.removeprefix(place.prefix)
        for name in admin.list_topics(timeout=5).topics
        if name.startswith(place.prefix)
        and not name.removeprefix(place.prefix).startswith(OTHER_KEYS)
    ]
    grow(admin, place, *by_user)

    fresh = place.worker(env={"NEXTWATCH_KAFKA_USER_PARTITIONS": "6"})
    code, last = ended(fresh, within_s=60)

    assert code == ExitCode.MISCONFIGURED
    assert "`nextwatch repartition 6`" in last


def test_a_deleted_changelog_does_not_come_back_by_itself(place, admin, player):
    """The broker creates topics that a producer names; ours names none that do not exist."""
    name = f"{place.prefix}nextwatch-streams-windows"
    worker = place.worker(HTTP_PORT=free_ports(1)[0])
    worker.wait_ready()
    player.answer_to(player.watch("u1", "v1"))
    admin.delete_topics([name])[name].result(10)
    player.watch("u1", "v2")
    player.flush()

    def reasons():
        return worker.health("/readyz")[1].get("reasons", {})

    assert eventually(lambda: name in reasons().get("cluster_fits", ""), within_s=20)
    has_ended = worker.child.wait_ended(60)
    assert name not in admin.list_topics(timeout=5).topics
    code, line = ended(place.worker())

    assert has_ended, "nothing can be published"
    assert code == ExitCode.MISCONFIGURED
    assert f"missing topics: {name}" in line


def test_a_compacted_topic_that_is_not_compacted_is_refused(place, admin):
    """As a broker creates it by itself: windows would be gone after seven days."""
    name = f"{place.prefix}nextwatch-streams-windows"
    admin.delete_topics([name])[name].result(10)
    assert eventually(lambda: name not in admin.list_topics(timeout=5).topics)
    admin.create_topics([NewTopic(name, 4, 1)])[name].result(10)

    with pytest.raises(ContractError, match=r"windows has cleanup\.policy=delete"):
        check_cluster(place.kafka, "streams")
    reconcile(place.kafka)
    check_cluster(place.kafka, "streams")


def test_a_limit_below_the_largest_message_is_told_with_the_topic(place, admin):
    """Before anything is written, and as a reason of its own if it is lowered later."""
    name = f"{place.prefix}item-vectors"
    entry = ConfigEntry("max.message.bytes", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(10)

    for app in ("trainer", "index_sync"):
        with pytest.raises(ContractError, match=r"item-vectors has max\.message\.bytes=1000"):
            check_cluster(place.kafka, app)
    outbox = Outbox(Producer(producer_config(place.kafka)))
    with pytest.raises(ContractError, match=r"item-vectors: MSG_SIZE_TOO_LARGE.*nextwatch topics"):
        outbox.deliver([Outgoing(name, b"v1", os.urandom(5_000))])


def test_a_session_that_the_broker_does_not_accept_ends_a_worker_at_its_start(place):
    worker = place.worker(env={"NEXTWATCH_KAFKA_SESSION_TIMEOUT_MS": "3000"})
    code, line = ended(worker)

    assert code == ExitCode.MISCONFIGURED
    assert "NEXTWATCH_KAFKA_SESSION_TIMEOUT_MS=3000: the broker accepts 6000 to" in line


def test_of_two_workers_with_one_instance_id_the_older_one_ends(place, player):
    """They would take the partitions from each other for ever."""
    older = place.worker(name="older", INSTANCE_ID="one")
    older.wait_ready()
    younger = place.worker(name="younger", INSTANCE_ID="one")
    code, last = ended(older, within_s=60)
    younger.wait_ready()

    assert code == ExitCode.MISCONFIGURED
    assert "NEXTWATCH_STREAMS_INSTANCE_ID=one" in last
    assert player.answer_to(player.watch("u1", "v1"), within_s=30)
    assert younger.child.is_running


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_stranger_in_the_group_is_named(place, protocol):
    """Another program with the group of streams: joining would fail for ever."""
    group = f"{place.prefix}nextwatch-streams"
    classic = {"session.timeout.ms": 6_000} if protocol == "classic" else {}
    stranger = Consumer(
        {
            "bootstrap.servers": place.bootstrap_servers,
            "group.id": group,
            "group.protocol": protocol,
            "client.id": "somebody-elses",
            **classic,
        }
    )
    stranger.subscribe([f"{place.prefix}watch-events"])
    try:
        assert eventually(lambda: stranger.poll(0.1) or stranger.assignment())
        worker = place.worker()
        assert eventually(lambda: stranger.poll(0.1) or not worker.child.is_running, within_s=30)
        code, line = ended(worker)
    finally:
        stranger.close()

    assert code == ExitCode.MISCONFIGURED
    assert f"the consumer group {group} has members that use another assignor" in line
    assert "somebody-elses" in line


@pytest.mark.parametrize("awaited", ["", Membership.JOINING.value], ids=["starts", "joins"])
def test_a_worker_that_is_told_to_stop_before_it_serves_leaves_in_order(awaited, tmp_path):
    """The group lets it wait; nothing was begun, so nothing can be lost."""
    with broker_with(tmp_path, group_initial_rebalance_delay_ms="60000") as broker:
        place = PrefixedStack(Stack(broker, tmp_path), "join-")
        worker: StackProcess = place.worker(HTTP_PORT=free_ports(1)[0])
        assert eventually(lambda: worker.health("/healthz")[0] == 200, within_s=30)
        assert eventually(lambda: awaited in str(worker.health("/readyz")[1]), within_s=30)
        worker.child.terminate()
        try:
            assert worker.child.wait_ended(10), worker.child.log_tail()
        finally:
            worker.child.kill()

    assert worker.child.exit_code == ExitCode.STOPPED, worker.child.log_tail()
