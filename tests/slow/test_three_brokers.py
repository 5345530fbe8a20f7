"""Three brokers and a controller apart: leaders change, and one partition loses all of its own."""

import time

import pytest

from benchmarks.cluster.cluster import EmbeddedCluster
from benchmarks.cluster.operator import until
from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from tests.slow.cluster_stacks import SeparateStack, stack_on
from tests.slow.steady_flow import Flow, assert_nothing_was_lost
from tests.support.oracle import all_answered

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with EmbeddedCluster(tmp_path_factory.mktemp("kafka"), num_brokers=3) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def services(cluster):
    with stack_on(cluster) as stack:
        yield stack


@pytest.fixture
def place(services):
    place = SeparateStack(services)
    yield place
    for worker in place.workers:  # a broker that starts needs the processor that they would take
        worker.kill()


@pytest.fixture
def player(cluster, place):
    with player_of(place) as player:
        yield player
        for number, child in cluster.brokers.items():
            if not child.is_running:  # a consumer may close for ever while its coordinator is away
                cluster.start_again(number)


def test_leaders_that_are_killed_or_restarted_one_after_another_cost_nothing(
    cluster, place, player
):
    """Factor 3 and two in sync: one broker may go at any time."""
    topic = f"{place.prefix}watch-events"
    worker = place.worker()
    worker.wait_ready()
    cluster.operator.await_in_sync()  # the test before may just have had a broker back
    with Flow(place) as flow:
        for number, is_killed in (
            (cluster.operator.leader(topic, 0), True),
            (1, False),
            (2, False),
        ):
            wanted = len(player.recommendations()) + 50
            goes_on = eventually(lambda: len(player.recommendations()) > wanted, within_s=60)  # noqa: B023
            assert goes_on, worker.child.log_tail()
            cluster.restart(number, is_killed=is_killed)
            cluster.operator.await_in_sync()
    assert worker.child.is_running, worker.child.exit_report()
    assert_nothing_was_lost(flow, player)


def test_a_partition_without_a_leader_holds_up_none_of_the_others(cluster, place, player):
    """Its only copy is on a broker that is down; it is answered once that is back."""
    topic = f"{place.prefix}watch-events"
    cluster.operator.delete_topic(topic)
    cluster.operator.create_topic(topic, [[1], [2], [3], [1]], min_insync_replicas="1")
    patience_s = 15.0  # longer than the cluster takes to give a dead broker's partitions away
    worker = place.worker(WATCHDOG_MS=int(patience_s * 1_000))
    worker.wait_ready()
    first = {user: player.watch(user, "v") for user in (f"u{n}" for n in range(40))}
    player.flush()
    assert eventually(lambda: all_answered(player, set(first.values())), within_s=60)
    of_user = {m.key().decode(): m.partition() for m in player.poll("recommendations")}
    waiting = {player.watch(user, "unread") for user in first if of_user[user] == 1}
    player.flush()
    cluster.brokers[2].kill()
    until(lambda: cluster.operator.leader(topic, 1) < 0, "the partition still has a leader")
    led = [user for user in first if of_user[user] != 1]
    for nth in range(3):  # for three times as long as the watchdog's patience
        sent = {player.watch(user, f"led{nth}") for user in led}
        assert eventually(lambda: all_answered(player, sent), within_s=30), worker.child.log_tail()  # noqa: B023
        time.sleep(patience_s)
    assert worker.child.is_running, worker.child.exit_report()
    cluster.start_again(2)
    late = {player.watch(user, "late") for user in first}
    player.flush()

    assert eventually(lambda: all_answered(player, waiting | late), within_s=90)


def test_workers_that_start_or_share_partitions_serve_those_that_are_led(cluster, place, player):
    """What has no leader is opened once it has one; nobody is started again for that."""
    topic = f"{place.prefix}watch-events"
    cluster.operator.delete_topic(topic)
    cluster.operator.create_topic(topic, [[1], [2], [3], [1]], min_insync_replicas="1")
    worker = place.worker()
    worker.wait_ready()
    first = {user: player.watch(user, "v") for user in (f"u{n}" for n in range(40))}
    player.flush()
    assert eventually(lambda: all_answered(player, set(first.values())), within_s=60)
    of_user = {m.key().decode(): m.partition() for m in player.poll("recommendations")}
    led = [user for user in first if of_user[user] != 1]
    cluster.brokers[2].kill()
    until(lambda: cluster.operator.leader(topic, 1) < 0, "the partition still has a leader")

    worker.child.kill()
    worker.child.start()
    sent = {player.watch(user, "restarted") for user in led}
    player.flush()
    assert eventually(lambda: all_answered(player, sent), within_s=60), worker.child.log_tail()
    second = place.worker()
    sent = {player.watch(user, "shared") for user in led}
    player.flush()
    assert eventually(lambda: second.logged("partitions_assigned"), within_s=60)
    assert eventually(lambda: all_answered(player, sent), within_s=60), worker.child.log_tail()
    assert not second.ready_file.exists() or not worker.ready_file.exists()
    cluster.start_again(2)
    late = {player.watch(user, "late") for user in first}
    player.flush()

    assert eventually(lambda: all_answered(player, late), within_s=90)
    assert worker.child.is_running, worker.child.exit_report()
    assert second.child.is_running, second.child.exit_report()
    second.wait_ready()


def test_after_an_unclean_election_what_comes_is_answered(cluster, place, player):
    """A copy that lagged behind leads: acknowledged events are gone, read offsets with them."""
    topic = f"{place.prefix}watch-events"
    cluster.operator.delete_topic(topic)
    cluster.operator.create_topic(
        topic,
        [[1, 2]] * 4,
        min_insync_replicas="1",
        unclean_leader_election_enable="true",
    )
    worker = place.worker()
    worker.wait_ready()
    before = {player.watch(f"u{n}", "v") for n in range(40)}
    player.flush()
    assert eventually(lambda: all_answered(player, before), within_s=60)
    cluster.brokers[2].kill()
    until(lambda: cluster.operator.in_sync(topic, 0) == [1], "the copy that is down is in sync")
    gone = {player.watch(f"u{n}", f"gone{nth}") for nth in range(5) for n in range(40)}
    player.flush()
    assert eventually(lambda: all_answered(player, gone), within_s=60), worker.child.log_tail()
    cluster.brokers[1].kill()
    cluster.start_again(2)
    until(lambda: cluster.operator.leader(topic, 0) == 2, "the copy that lagged does not lead")
    after = {player.watch(f"u{n}", "after") for n in range(40)}
    player.flush()

    assert eventually(lambda: all_answered(player, after), within_s=90), worker.child.log_tail()
    assert worker.child.is_running
    assert worker.logged("log_replaced")
