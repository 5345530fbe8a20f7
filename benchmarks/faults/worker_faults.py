"""Faults of workers, index and network. Each is one function: it breaks something, and mends it.

What it returns is the moment at which the fault struck. None of them waits for the stack to
recover: that is measured by `rounds`.
"""

from time import monotonic, sleep

from confluent_kafka import Consumer, TopicPartition

from benchmarks.faults.arena import PATIENCE_S, Arena, Fault, FaultTiming
from benchmarks.faults.fault_actors import TargetWorker
from benchmarks.stack.waiting import eventually
from contract.kafka.client import consumer_config
from contract.wire.topics import WINDOWS

SILENCE_S = 3.0
LATENCY_MS = 150
LAST_WORDS_S = 5.0
BURST = 2_000
"""Events that come at once: two workers take about a second to answer them."""


def kill(arena: Arena) -> FaultTiming:
    """SIGKILL a worker; it stays dead until the other one answers for each of its partitions."""
    victim = _victim(arena)
    orphans = victim.partitions()
    at_s = monotonic()
    victim.kill()
    takeover_s = _takeover_s(arena, orphans, at_s)
    victim.start()
    return FaultTiming(at_s, takeover_s)


def kill_and_wipe(arena: Arena) -> FaultTiming:
    """SIGKILL a worker, remove its state, and start it again at once."""
    victim = _victim(arena)
    _make_busy(arena, victim)
    at_s = monotonic()
    victim.kill()
    victim.wipe()
    victim.start()
    return FaultTiming(at_s)


def pause(arena: Arena) -> FaultTiming:
    """SIGSTOP a worker until the other one has long taken over, then SIGCONT: a zombie."""
    victim = _victim(arena)
    orphans = victim.partitions()
    _make_busy(arena, victim)
    at_s = monotonic()
    victim.pause()
    _takeover_s(arena, orphans, at_s)
    _go_beyond(arena)
    victim.resume()
    return FaultTiming(at_s)


def isolate(arena: Arena) -> FaultTiming:
    """Hold back what a worker sends until the other one has taken over, then deliver it.

    The worker lives, so no fence of its own tells it that its partitions are somebody else's.
    """
    victim = _victim(arena)
    orphans = victim.partitions()
    _make_busy(arena, victim)
    at_s = monotonic()
    arena.network.hold(victim.pid, is_uplink_only=True)
    _takeover_s(arena, orphans, at_s)
    _go_beyond(arena)
    arena.network.release()
    return FaultTiming(at_s)


def isolate_and_wipe(arena: Arena) -> FaultTiming:
    """As `isolate`, but the new owner loses its state just before the zombie's records arrive.

    What it knew beyond the zombie is then in nobody's memory, and in the changelog overwritten.
    The zombie dies a moment later, so that both begin with what is published.
    """
    victim = _victim(arena)
    successor = next(worker for worker in arena.actors.workers if worker is not victim)
    orphans = victim.partitions()
    _make_busy(arena, victim)
    at_s = monotonic()
    arena.network.hold(victim.pid, is_uplink_only=True)
    _takeover_s(arena, orphans, at_s)
    _go_beyond(arena)
    successor.kill()
    successor.wipe()
    written = _num_written(arena)
    arena.network.release()
    eventually(lambda: _num_written(arena) > written, within_s=LAST_WORDS_S)
    victim.kill()
    victim.wipe()
    for worker in (successor, victim):
        worker.start()
    return FaultTiming(at_s)


def terminate(arena: Arena) -> FaultTiming:
    """SIGTERM a worker and start it again when it has gone."""
    victim = _victim(arena)
    at_s = monotonic()
    victim.child.terminate()
    victim.child.wait_ended(PATIENCE_S)
    victim.start()
    return FaultTiming(at_s)


def add_and_remove(arena: Arena) -> FaultTiming:
    """Start a third worker; once it has partitions it goes again, by SIGTERM or SIGKILL.

    Its going is what strikes; what its coming does shows in the longest wait.
    """
    thirds = arena.actors.workers[2:]
    third = thirds[0] if thirds else arena.actors.add()
    third.start()
    eventually(third.is_ready, within_s=PATIENCE_S)
    at_s = monotonic()
    if arena.rng.random() < 0.5:  # noqa: PLR2004 - either
        third.child.terminate()
        third.child.wait_ended(PATIENCE_S)
    third.kill()
    return FaultTiming(at_s)


def kill_index(arena: Arena) -> FaultTiming:
    """SIGKILL the index; it comes back on its data once an answer had to do without it."""
    index, ledger = arena.stack.process("index"), arena.ledger
    num_degraded = ledger.counts["degraded"]
    at_s = monotonic()
    index.kill()
    eventually(lambda: ledger.counts["degraded"] > num_degraded, within_s=PATIENCE_S)
    index.start()
    index.wait_ready(PATIENCE_S)
    back_s = monotonic()
    eventually(lambda: ledger.whole_answer_s > back_s, within_s=PATIENCE_S)
    return FaultTiming(at_s)


def cut(arena: Arena) -> FaultTiming:
    """Close every connection to the broker, once."""
    at_s = monotonic()
    arena.network.cut()
    return FaultTiming(at_s)


def cut_one(arena: Arena) -> FaultTiming:
    """Close every connection of one worker to the broker, once."""
    victim = _victim(arena)
    at_s = monotonic()
    arena.network.cut(victim.pid)
    return FaultTiming(at_s)


def black_hole(arena: Arena) -> FaultTiming:
    """Let nothing through to or from the broker for some seconds."""
    at_s = monotonic()
    arena.network.hold()
    sleep(SILENCE_S)
    arena.network.release()
    return FaultTiming(at_s)


def slow(arena: Arena) -> FaultTiming:
    """Make every chunk to and from the broker late for some seconds."""
    at_s = monotonic()
    arena.network.delay(LATENCY_MS)
    sleep(SILENCE_S)
    arena.network.delay(0)
    return FaultTiming(at_s)


WORKER_FAULTS: dict[str, Fault] = {
    "kill": kill,
    "kill_and_wipe": kill_and_wipe,
    "pause": pause,
    "isolate": isolate,
    "isolate_and_wipe": isolate_and_wipe,
    "terminate": terminate,
    "add_and_remove": add_and_remove,
    "kill_index": kill_index,
    "cut": cut,
    "cut_one": cut_one,
    "black_hole": black_hole,
    "slow": slow,
}


def _victim(arena: Arena) -> TargetWorker:
    return arena.rng.choice([worker for worker in arena.actors.workers[:2] if worker.is_ready()])


def _make_busy(arena: Arena, victim: TargetWorker) -> None:
    """Produce a burst, and wait until *victim* is working on it."""
    windows_of, partitions = arena.ledger.windows_of, victim.partitions()
    num_before = sum(windows_of[number] for number in partitions)
    arena.ledger.burst(BURST)

    def is_busy() -> bool:
        num_windows = sum(windows_of[number] for number in partitions)
        return num_windows > num_before + BURST // 20

    eventually(is_busy, within_s=PATIENCE_S, every_s=0.005)


def _go_beyond(arena: Arena) -> None:
    """Have the new owner answer events of users that the zombie knows, too."""
    arena.ledger.burst(BURST)
    sleep(1.0)


def _num_written(arena: Arena) -> int:
    """Return how many records the changelog has ever been given."""
    kafka = arena.stack.kafka
    consumer = Consumer(consumer_config(kafka, group_id="faults"))
    try:
        places = [
            TopicPartition(kafka.layout.name(WINDOWS), number)
            for number in range(kafka.user_partitions)
        ]
        return sum(consumer.get_watermark_offsets(place, timeout=PATIENCE_S)[1] for place in places)
    finally:
        consumer.close()


def _takeover_s(arena: Arena, orphans: list[int], at_s: float) -> float:
    """Wait until an event produced since *at_s* is answered in each of *orphans*."""
    first: dict[int, float] = {}

    def is_taken_over() -> bool:
        arena.actors.mend()
        first.update(arena.ledger.first_answers_s(at_s))
        return set(orphans) <= set(first)

    eventually(is_taken_over, within_s=PATIENCE_S)
    return max((first.get(number, at_s + PATIENCE_S) for number in orphans), default=at_s) - at_s
