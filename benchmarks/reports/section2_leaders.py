"""Reports on a partition without a leader."""

from time import sleep

from benchmarks.cluster.operator import until
from benchmarks.reports.row import Row
from benchmarks.reports.stage import Seen, Stage

NUM_USERS = 40
WATCHDOG_MS = 20_000
"""Longer than the cluster needs to notice that a broker is gone; until then it counts as leader."""

LEADERLESS = 1
REPLICAS = ((1,), (2,), (3,), (1,))
"""The brokers of each partition: the one that is led by broker 2 has no other copy."""


def partition_without_leader(stage: Stage) -> Seen:
    """One of four partitions is without leader for three times the watchdog's patience."""
    own, cluster = stage.on_cluster(num_brokers=3)
    topic = own.topic("watch-events")
    own.operator.delete_topic(topic)
    own.operator.create_topic(topic, REPLICAS, min_insync_replicas="1")
    worker = own.streams(WATCHDOG_MS=WATCHDOG_MS)
    own.num_answered(own.watches(NUM_USERS, "a"), within_s=60)
    partition_of = {
        (message.key() or b"").decode(): message.partition()
        for message in own.player.poll("recommendations")
    }
    waiting = {own.player.watch(u, "b") for u, at in partition_of.items() if at == LEADERLESS}
    own.player.flush()
    cluster.brokers[2].kill()
    until(lambda: own.operator.leader(topic, LEADERLESS) < 0, "the partition has a leader")
    led = [user for user, at in partition_of.items() if at != LEADERLESS]
    answered = 0
    for nth in range(3):
        answered += own.num_answered({own.player.watch(user, f"c{nth}") for user in led})
        sleep(WATCHDOG_MS / 1_000)
    is_alive = worker.child.is_running
    cluster.start_again(2)
    late = {own.player.watch(user, "d") for user in partition_of}
    num_late = own.num_answered(waiting | late, within_s=90)
    text = (
        f"{answered} of {3 * len(led)} answered in the others, the worker lives: {is_alive}, "
        f"{num_late} of {len(waiting | late)} once it has a leader again"
    )
    is_right = answered == 3 * len(led) and num_late == len(waiting | late)
    return Seen(is_right and is_alive, text)


ROWS = (Row("2.8", "a partition without leader", partition_without_leader),)
