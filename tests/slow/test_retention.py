"""The beginning of a log goes while somebody reads it, or before: what is left is read."""

import os
import signal
import time
from contextlib import contextmanager

import pytest

from benchmarks.cluster.cluster import EmbeddedCluster
from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from tests.slow.cluster_stacks import SeparateStack, keys, stack_on
from tests.support.oracle import all_answered

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    settings = {
        "log.retention.check.interval.ms": "500",
        "log.initial.task.delay.ms": "500",
        "log.segment.delete.delay.ms": "500",
    }
    with EmbeddedCluster(tmp_path_factory.mktemp("kafka"), settings=settings) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def services(cluster):
    with stack_on(cluster) as stack:
        yield stack


@pytest.fixture
def place(services):
    return SeparateStack(services)


@pytest.fixture
def player(place):
    with player_of(place) as player:
        yield player


@contextmanager
def stopped(process):
    """End *process* for a while, in order."""
    process.child.terminate()
    assert process.child.wait_ended(20)
    yield
    process.child.start()


@contextmanager
def paused(process):
    """Let *process* stand still for a while."""
    os.kill(process.child.pid, signal.SIGSTOP)
    yield
    os.kill(process.child.pid, signal.SIGCONT)


def test_a_worker_that_retention_follows_closely_answers_everything(cluster, place, player):
    """Segments are deleted a moment after they were read; nobody is told of a loss."""
    topic = f"{place.prefix}watch-events"
    cluster.operator.configure_topic(topic, retention_ms="1000", segment_ms="500")
    worker = place.worker()
    worker.wait_ready()
    sent = set()
    for number in range(100):
        sent |= {player.watch(f"u{nth}", f"v{number}") for nth in range(8)}
        player.flush()
        time.sleep(0.1)

    assert eventually(lambda: all_answered(player, sent), within_s=30)
    first = [cluster.operator.first_offset(topic, partition) for partition in range(4)]
    assert max(first) > 0, "retention deleted nothing"
    assert not worker.logged("records_gone")
    assert len(worker.logged("partitions_assigned")) == 1


@pytest.mark.parametrize("away", [stopped, paused])
def test_a_trainer_that_was_away_longer_than_retention_goes_on_with_what_is_left(
    cluster, place, player, away
):
    """Its offsets are gone from the log: it says so, and takes the next record."""
    pytest.importorskip("torch")
    topic = f"{place.prefix}impressions"
    trainer = place.process("trainer")
    trainer.wait_ready()
    player.produce("impressions", "before", b"junk")
    player.flush()
    assert eventually(lambda: "before" in dead_impressions(player), within_s=30)
    with away(trainer):
        for number in range(200):
            player.produce("impressions", f"missed{number}", b"junk")
        player.flush()
        for partition in range(4):
            cluster.operator.delete_records(topic, partition)
    for number in range(20):
        player.produce("impressions", f"after{number}", b"junk")
    player.flush()

    def has_read_on():
        return dead_impressions(player) >= {f"after{number}" for number in range(20)}

    eventually(lambda: has_read_on() or not trainer.child.is_running, within_s=60)
    assert trainer.child.is_running, trainer.child.log_tail()
    assert has_read_on(), trainer.child.log_tail()
    assert trainer.logged("records_gone")


def dead_impressions(player):
    return keys(player.poll("impressions.dlq"))


def test_index_sync_goes_on_where_an_operator_bounded_the_age_of_uploads(cluster, place, player):
    """With ``compact,delete`` a compacted topic loses its beginning, too."""
    pytest.importorskip("torch")
    topic = f"{place.prefix}video-uploads"
    cluster.operator.configure_topic(topic, cleanup_policy="compact,delete")
    index_sync, trainer = place.process("index_sync"), place.process("trainer")
    for process in (index_sync, trainer):
        process.wait_ready()
    player.upload("before")
    player.flush()
    assert eventually(lambda: "before" in indexed(player), within_s=60)
    with stopped(index_sync):
        player.upload("missed")
        player.flush()
        cluster.operator.delete_records(topic, 0)
    player.upload("after")
    player.flush()

    assert eventually(lambda: "after" in indexed(player), within_s=60), index_sync.child.log_tail()


def indexed(player):
    return keys(player.poll("item-vectors", key="video"))
