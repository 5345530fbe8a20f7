"""Transactions of other producers: only what is committed counts, and nobody waits for ever."""

import json
import signal
import subprocess
import sys
import time

import pytest
from confluent_kafka import Producer

from benchmarks.cluster.cluster import EmbeddedCluster
from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from contract.kafka.client import producer_config
from contract.process.clock import system_clock
from contract.wire.topics import WINDOWS
from models.history.codec import decode
from tests.slow.cluster_stacks import SeparateStack, Transactions, keys, stack_on
from tests.support.builders import event_id
from tests.support.oracle import all_answered, published_windows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KILLED = """
import os, signal, sys
from confluent_kafka import Producer
servers, topic, key = sys.argv[1:]
producer = Producer({
    "bootstrap.servers": servers,
    "partitioner": "murmur2_random",
    "transactional.id": topic + "-killed",
    "transaction.timeout.ms": 8_000,
})
producer.init_transactions(20)
producer.begin_transaction()
producer.produce(topic, key=key, value=sys.stdin.buffer.read())
assert producer.flush(20) == 0
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    settings = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500"}
    folder = tmp_path_factory.mktemp("kafka")
    with EmbeddedCluster(folder, settings=settings) as cluster, stack_on(cluster) as stack:
        yield stack


@pytest.fixture
def place(services):
    return SeparateStack(services)


@pytest.fixture
def player(place):
    with player_of(place) as player:
        yield player


def watch(user_id, video_id):
    return {
        "event_id": event_id(f"{user_id}/{video_id}"),
        "user_id": user_id,
        "video_id": video_id,
        "event_time_ms": system_clock(),
        "watch_ms": 30_000,
        "duration_ms": 30_000,
    }


def test_a_producer_killed_in_a_transaction_holds_nobody_up_for_longer_than_its_timeout(
    place, player
):
    """Its watch is nobody's; those behind it are answered, and no watchdog ends the worker."""
    worker = place.worker(WATCHDOG_MS=2_000)
    worker.wait_ready()
    killed = watch("u1", "killed")
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED,
            place.bootstrap_servers,
            f"{place.prefix}watch-events",
            "u1",
        ],
        input=json.dumps(killed).encode(),
        check=False,
        timeout=60,
    )
    assert ended.returncode == -signal.SIGKILL
    behind = {player.watch("u1", f"behind{n}") for n in range(10)}
    elsewhere = {player.watch(f"u{n}", "elsewhere") for n in range(2, 40)}
    player.flush()

    assert eventually(lambda: all_answered(player, behind | elsewhere), within_s=60)
    answered = {event for answer in player.recommendations() for event in answer["caused_by"]}
    assert killed["event_id"] not in answered
    assert worker.child.is_running
    assert len(worker.logged("partitions_assigned")) == 1


def test_windows_behind_an_open_transaction_on_the_changelog_are_found(place, player):
    """A stranger's; a worker with an empty disk reads them all the same, and loses none."""
    worker = place.worker()
    worker.wait_ready()
    first = player.watch("u1", "v1")
    player.flush()
    assert eventually(lambda: all_answered(player, {first}), within_s=30)
    partition = player.poll("recommendations")[0].partition()
    stranger = Producer(
        producer_config(place.kafka)
        | {"transactional.id": place.prefix + "stranger", "transaction.timeout.ms": 120_000}
    )
    stranger.init_transactions(20)
    stranger.begin_transaction()
    stranger.produce(place.prefix + WINDOWS.name, key=b"", value=b"junk", partition=partition)
    assert stranger.flush(20) == 0
    behind = player.watch("u1", "v2")
    player.flush()
    assert eventually(lambda: all_answered(player, {behind}), within_s=30)
    worker.child.terminate()
    assert worker.child.wait_ended(20)

    other = place.worker()
    other.wait_ready()
    stranger.abort_transaction(20)
    last = player.watch("u1", "v3")
    player.flush()
    assert eventually(lambda: all_answered(player, {last}), within_s=40)
    windows = published_windows(player)
    assert set(decode(windows["u1"]).video_ids) == {"v1", "v2", "v3"}


def test_no_process_takes_what_was_aborted(place, player):
    """Junk in an aborted transaction is not even a dead letter; in a committed one it is."""
    pytest.importorskip("torch")
    processes = [place.process(name) for name in ("streams", "trainer", "index_sync")]
    for process in processes:
        process.wait_ready()
    sender = Transactions(place)
    for topic in ("watch-events", "impressions", "video-uploads"):
        sender.begin()
        sender.produce(topic, "aborted", b"junk")
        sender.abort()
        sender.begin()
        sender.produce(topic, "committed", b"junk")
        sender.commit()

    for topic, key in (
        ("watch-events", "user"),
        ("impressions", "user"),
        ("video-uploads", "video"),
    ):
        assert eventually(lambda: player.poll(f"{topic}.dlq", key=key), within_s=30), topic  # noqa: B023
        assert keys(player.poll(f"{topic}.dlq", key=key)) == {"committed"}


def test_trainer_and_index_sync_start_while_a_transaction_is_open(place, player):
    """They do not wait for it; what is in it and behind it is indexed once it is committed."""
    pytest.importorskip("torch")
    sender = Transactions(place)
    sender.begin()
    upload = {
        "video_id": "inside",
        "title": "inside",
        "duration_ms": 30_000,
        "uploaded_at_ms": system_clock(),
    }
    sender.produce("video-uploads", "inside", upload)
    player.upload("behind")
    player.flush()
    processes = [place.process(name) for name in ("trainer", "index_sync")]
    for process in processes:
        process.wait_ready()
    time.sleep(3)  # as long as a transaction that is forgotten may stay open, they stay up
    assert all(process.child.is_running for process in processes)
    assert not keys(player.poll("item-vectors", key="video")) & {"inside", "behind"}
    sender.commit()

    def are_indexed():
        return keys(player.poll("item-vectors", key="video")) >= {"inside", "behind"}

    assert eventually(are_indexed, within_s=30)
