"""Faults of the broker and of its topics.

A topic that is created again, and one whose records are deleted, lose what nobody has read yet.
That is not a worker's fault, so whoever sent it sends it again: a player that has no answer would.
"""

import os
import signal
import sys
from collections.abc import Callable
from time import monotonic, sleep
from uuid import uuid4

from benchmarks.cluster.operator import Operator
from benchmarks.faults.arena import PATIENCE_S, Arena, Fault, FaultTiming
from benchmarks.stack.topic_changes import create_again
from benchmarks.stack.waiting import eventually
from benchmarks.windows.reading import published_windows
from contract.wire.topics import WATCH_EVENTS, WINDOWS
from nextwatch.embedded.process.process import Child

SETTLED_S = 2.0
FREEZE_S = 0.8
THAW_S = 0.3
NUM_FREEZES = 5


def restart_broker(arena: Arena) -> FaultTiming:
    """Stop the broker in order and start it again."""
    return _broker_away(arena, Child.stop)


def kill_broker(arena: Arena) -> FaultTiming:
    """SIGKILL the broker and start it again on its data."""
    return _broker_away(arena, Child.kill)


def _broker_away(arena: Arena, end: Callable[[Child], None]) -> FaultTiming:
    at_s = monotonic()
    end(arena.broker.child)
    arena.broker.child.start()
    eventually(arena.broker.child.is_ready, within_s=PATIENCE_S)
    return FaultTiming(at_s)


def freeze_broker(arena: Arena) -> FaultTiming:
    """Stop the broker for moments (SIGSTOP), as a disk does that stalls."""
    at_s = monotonic()
    for _ in range(NUM_FREEZES):
        os.kill(arena.broker.child.pid, signal.SIGSTOP)
        sleep(FREEZE_S)
        os.kill(arena.broker.child.pid, signal.SIGCONT)
        sleep(THAW_S)
    return FaultTiming(at_s)


def recreate_events(arena: Arena) -> FaultTiming:
    """Delete `watch-events` under the workers, and create it again."""
    at_s = monotonic()
    create_again(arena.stack.kafka, WATCH_EVENTS.name)
    _send_again(arena)
    return FaultTiming(at_s)


def recreate_changelog(arena: Arena) -> FaultTiming:
    """Delete the changelog under the workers, and create it again.

    It returns once every window is in the new one: until then the stores have the only copies, and
    a fault that takes a store away would be a second one at the same time.
    """
    kafka = arena.stack.kafka
    users = set(published_windows(kafka))
    at_s = monotonic()
    create_again(kafka, WINDOWS.name)

    def is_published() -> bool:
        arena.actors.mend()
        return users <= published_windows(kafka).keys()

    eventually(is_published, within_s=PATIENCE_S, every_s=1.0)
    return FaultTiming(at_s)


def delete_events(arena: Arena) -> FaultTiming:
    """Delete all records of `watch-events`, so that the workers' offsets are out of range."""
    kafka = arena.stack.kafka
    at_s = monotonic()
    operator = Operator(kafka.bootstrap_servers)
    for number in range(kafka.user_partitions):
        operator.delete_records(kafka.layout.name(WATCH_EVENTS), number)
    _send_again(arena)
    return FaultTiming(at_s)


def kill_transaction(arena: Arena) -> FaultTiming:
    """SIGKILL a producer in the middle of a transaction.

    Until the broker aborts it, nobody can read what lies behind its records.
    """
    name = f"transaction-{uuid4().hex[:8]}"
    argv = (sys.executable, "-m", "benchmarks.faults.open_transaction", name)
    producer = arena.stack.add_process(name, argv)
    eventually(lambda: "open" in producer.log_tail(), within_s=PATIENCE_S)
    at_s = monotonic()
    producer.kill()
    return FaultTiming(at_s)


def _send_again(arena: Arena) -> None:
    """Send the events again that were sent until now and are unanswered shortly after."""
    until_s = monotonic()
    sleep(SETTLED_S)
    ledger = arena.ledger
    ledger.send_again(ledger.unanswered(ledger.produced_until(until_s)))


BROKER_FAULTS: dict[str, Fault] = {
    "restart_broker": restart_broker,
    "kill_broker": kill_broker,
    "freeze_broker": freeze_broker,
    "recreate_events": recreate_events,
    "recreate_changelog": recreate_changelog,
    "delete_events": delete_events,
    "kill_transaction": kill_transaction,
}
