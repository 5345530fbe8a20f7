"""Topics are deleted, made anew, or given partitions under running workers."""

import time

import pytest

from benchmarks.cluster.cluster import EmbeddedCluster
from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from contract.process.exit_codes import ExitCode
from nextwatch.topics.topics import reconcile
from tests.slow.cluster_stacks import SeparateStack, keys, stack_on
from tests.support.oracle import all_answered

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with EmbeddedCluster(tmp_path_factory.mktemp("kafka")) as cluster:
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


def make_anew(cluster, place, topic):
    """Delete *topic* and create it again, as an operator does."""
    cluster.operator.delete_topic(place.prefix + topic)
    reconcile(place.kafka)


def test_events_of_a_topic_made_anew_under_a_running_worker_are_answered(cluster, place, player):
    """Its offsets begin again below those that the worker stands at."""
    worker = place.worker()
    worker.wait_ready()
    before = {player.watch(f"u{n % 40}", f"v{n}") for n in range(240)}
    player.flush()
    assert eventually(lambda: all_answered(player, before), within_s=30)
    make_anew(cluster, place, "watch-events")
    after = {player.watch(f"u{n % 40}", f"w{n}") for n in range(60)}
    player.flush()

    assert eventually(lambda: all_answered(player, after), within_s=60), worker.child.log_tail()


def test_events_of_a_topic_made_anew_after_its_leader_changed_are_answered(cluster, place, player):
    """The new one begins with an older leader epoch than the fetcher has seen."""
    worker = place.worker(HEAL_EVERY_MS=1_000)
    worker.wait_ready()
    for restart in range(2):
        cluster.restart(1, is_killed=False)
        before = {player.watch(f"u{n}", f"v{restart}") for n in range(40)}
        player.flush(within_s=60)
        assert eventually(lambda: all_answered(player, before), within_s=60)  # noqa: B023
    make_anew(cluster, place, "watch-events")
    after = {player.watch(f"u{n % 40}", f"w{n}") for n in range(60)}
    player.flush()

    assert eventually(lambda: all_answered(player, after), within_s=40), worker.child.log_tail()


@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.5])
def test_events_of_a_topic_made_anew_as_a_worker_takes_it_up_are_answered(
    cluster, place, player, after_s
):
    """The worker has looked which topic it is, and has fetched nothing of it yet."""
    worker = place.worker(HEAL_EVERY_MS=1_000)
    worker.wait_ready()
    before = {player.watch(f"u{n}", "v") for n in range(200)}
    player.flush()
    assert eventually(lambda: all_answered(player, before), within_s=30)
    worker.child.kill()
    worker.child.start()
    assert eventually(lambda: len(worker.logged("partitions_assigned")) == 2, every_s=0.01)
    time.sleep(after_s)  # which instant is the bad one depends on the machine
    make_anew(cluster, place, "watch-events")
    after = {player.watch(f"u{n}", "w") for n in range(40)}
    player.flush()

    assert eventually(lambda: all_answered(player, after), within_s=40), worker.child.log_tail()


def test_answers_go_on_when_their_topic_is_made_anew(cluster, place, player):
    """The worker's producer finds the new one; what the old one acknowledged is gone."""
    worker = place.worker()
    worker.wait_ready()
    before = {player.watch(f"u{n}", "v") for n in range(40)}
    player.flush()
    assert eventually(lambda: all_answered(player, before), within_s=30)
    make_anew(cluster, place, "recommendations")
    with player_of(place) as newcomer:
        after = {newcomer.watch(f"u{n}", "w") for n in range(40)}
        newcomer.flush()

        assert eventually(lambda: all_answered(newcomer, after), within_s=60), (
            worker.child.log_tail()
        )


@pytest.mark.parametrize("topic", ["video-uploads", "item-vectors"])
def test_uploads_are_indexed_when_a_topic_of_theirs_is_made_anew(cluster, place, player, topic):
    """index_sync reads and writes the new one."""
    pytest.importorskip("torch")
    processes = [place.process(name) for name in ("trainer", "index_sync")]
    for process in processes:
        process.wait_ready()
    for number in range(20):
        player.upload(f"before{number}")
    player.flush()
    assert eventually(lambda: "before19" in indexed(player), within_s=60)
    make_anew(cluster, place, topic)
    with player_of(place) as newcomer:
        for number in range(5):
            newcomer.upload(f"after{number}")
        newcomer.flush()

        assert eventually(lambda: "after4" in indexed(newcomer), within_s=60), processes[
            1
        ].child.log_tail()


def indexed(player):
    return keys(player.poll("item-vectors", key="video"))


def test_partitions_that_are_added_end_the_workers_with_the_topic_named(cluster, place, player):
    """Users whose key moves would have two windows; nothing may be answered from either."""
    worker = place.worker()
    worker.wait_ready()
    sent = {player.watch(f"u{n}", "v") for n in range(40)}
    player.flush()
    assert eventually(lambda: all_answered(player, sent), within_s=30)
    cluster.operator.add_partitions(f"{place.prefix}watch-events", 6)

    assert worker.child.wait_ended(60)
    assert worker.child.exit_code == ExitCode.MISCONFIGURED
    assert "watch-events" in worker.child.log_path.read_text()
