"""Play rounds: a fault in mid-stream, then wait until all is recovered and answered.

The schedule is a function of the seed: every kind in a random order, then again. Events flow
all the time, before, during and after, and a round that did not strike in mid-stream is counted
as such, since it proves nothing.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic, sleep

from confluent_kafka import KafkaException

from benchmarks.faults.arena import Arena, NotRecoveredError, arena
from benchmarks.faults.broken import BREAKS
from benchmarks.faults.cluster_faults import CLUSTER_FAULTS
from benchmarks.faults.table import FAULTS
from benchmarks.faults.verdict import Round, RunRecord, close
from benchmarks.stack.waiting import eventually
from contract.errors import StackError

RECOVERED_WITHIN_S = 90.0
_FLOW_S = 0.3

Tell = Callable[[str], None]


def schedule(seed: int, kinds: Sequence[str]) -> Iterator[str]:
    """Yield kinds of faults for ever: all of them in a random order, then all of them again."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    while True:
        yield from rng.sample(kinds, len(kinds))


def play(
    kinds: Sequence[str],
    seed: int,
    *,
    rate: float,
    breaks: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    within_s: float = RECOVERED_WITHIN_S,
    tell: Tell = lambda _line: None,
) -> RunRecord:
    """Run one stack through *kinds* and return its record; all of them, or none, need a cluster.

    One that has not recovered *within_s* after a fault is trouble, and meets no further one.
    """
    record = RunRecord()

    def is_kept() -> bool:
        return not record.is_kept and not set(breaks) & set(BREAKS)

    try:
        with arena(
            seed,
            rate=rate,
            breaks=breaks,
            env=env or {},
            has_cluster=kinds[0] in CLUSTER_FAULTS,
            is_kept=is_kept,
        ) as stage:
            for kind in kinds:
                try:
                    record.rounds.append(play_one(stage, kind, within_s=within_s))
                except NotRecoveredError as error:
                    record.trouble.append(str(error))
                    tell(f"  {kind:<17} {error}")
                    break
                tell(_line(record.rounds[-1]))
            close(stage, record, within_s=within_s)
            if is_kept():
                tell(f"  logs and state are kept in {stage.stack.directory}")
    except NotRecoveredError as error:
        record.trouble.append(str(error))
    return record


def play_one(stage: Arena, kind: str, *, within_s: float = RECOVERED_WITHIN_S) -> Round:
    """Apply the fault *kind* in mid-stream and wait for the recovery.

    Raises:
        NotRecoveredError: somebody stays down, or an event stays without an answer.
    """
    ledger = stage.ledger
    ledger.check()
    num_stale = ledger.counts["stale_overwrites"]
    is_flowing = _is_flowing(stage)
    try:
        timing = FAULTS[kind](stage)
    except (TimeoutError, StackError, KafkaException) as error:
        raise NotRecoveredError(f"{kind}: {error}") from error
    while monotonic() < timing.at_s + 1.0:
        stage.actors.mend()
        sleep(_FLOW_S)
    due = ledger.produced_until(timing.at_s + 1.0)
    num_before = len(ledger.produced_until(timing.at_s))
    produced = ledger.events.copy()

    def is_recovered() -> bool:
        return stage.actors.is_whole() and not ledger.unanswered(produced)

    if not eventually(is_recovered, within_s=within_s):
        left = len(ledger.unanswered(produced))
        raise NotRecoveredError(
            f"{kind}: {left} events without an answer, accidents {dict(stage.actors.accidents)}, "
            f"{within_s:.0f} s after it struck"
        )
    recovery_s = max(ledger.answered_s[event_id] for event_id in due) - timing.at_s
    is_mid_stream = is_flowing and len(due) > num_before
    num_stale = ledger.counts["stale_overwrites"] - num_stale
    return Round(kind, recovery_s, timing.takeover_s, is_mid_stream, num_stale)


def _is_flowing(stage: Arena) -> bool:
    """Wait until answers come again, and say whether they do."""
    num_answered = len(stage.ledger.answered_s)
    sleep(_FLOW_S)
    return eventually(lambda: len(stage.ledger.answered_s) > num_answered, within_s=5.0)


def _line(played: Round) -> str:
    takeover = "" if played.takeover_s is None else f"  takeover {played.takeover_s:5.1f} s"
    stale = f"  {played.stale_overwrites} stale" if played.stale_overwrites else ""
    doubt = "" if played.is_mid_stream else "  not in mid-stream"
    return f"  {played.kind:<17} recovered after {played.recovery_s:5.1f} s{takeover}{stale}{doubt}"
