"""Faults of one of three brokers: leadership moves, or a partition has no leader."""

from time import monotonic

from benchmarks.faults.arena import Arena, Fault, FaultTiming
from benchmarks.stack.waiting import eventually
from contract.wire.topics import SEARCH_EVENTS, WATCH_EVENTS

LEADERLESS_S = 8.0


def kill_leader(arena: Arena) -> FaultTiming:
    """SIGKILL the broker that leads a partition of `watch-events`, and start it again."""
    return _change_leader(arena, is_killed=True)


def restart_leader(arena: Arena) -> FaultTiming:
    """Stop the broker that leads a partition of `watch-events`, and start it again."""
    return _change_leader(arena, is_killed=False)


def _change_leader(arena: Arena, *, is_killed: bool) -> FaultTiming:
    topic = arena.stack.kafka.layout.name(WATCH_EVENTS)
    leader = _leader(arena, topic)
    at_s = monotonic()
    arena.cluster.restart(leader, is_killed=is_killed)
    return FaultTiming(at_s)


def lose_leader(arena: Arena) -> FaultTiming:
    """SIGKILL the only broker that has a partition of `search-events`, which then has no leader."""
    topic = arena.stack.kafka.layout.name(SEARCH_EVENTS)
    leader = _leader(arena, topic)
    at_s = monotonic()
    arena.cluster.brokers[leader].kill()
    eventually(arena.actors.mend, within_s=LEADERLESS_S)
    arena.cluster.start_again(leader)
    return FaultTiming(at_s)


def _leader(arena: Arena, topic: str) -> int:
    """Return the leader of some partition of *topic*, once every copy in the cluster is in sync."""
    operator = arena.cluster.operator
    operator.await_in_sync()
    return operator.leader(topic, arena.rng.randrange(arena.stack.kafka.user_partitions))


CLUSTER_FAULTS: dict[str, Fault] = {
    "kill_leader": kill_leader,
    "restart_leader": restart_leader,
    "lose_leader": lose_leader,
}
