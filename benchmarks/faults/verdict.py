"""Compare what each stack left with the oracle, and sum the figures of all stacks.

A stack keeps its promises when nothing accepted is lost, nothing stands twice in a window, nothing
of an aborted transaction was answered, and all windows, in the changelog and in the stores, are to
the byte those of an undisturbed run.
"""

import statistics
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.faults.arena import Arena
from benchmarks.stack.waiting import eventually
from benchmarks.windows import oracle
from benchmarks.windows.reading import kept_windows, published_windows
from contract.process.settings import KafkaSettings
from contract.wire.topics import TOPICS
from models.history.history import WindowPolicy
from nextwatch.unread import num_unread_by

_STOPPED_WITHIN_S = 12.0


@dataclass(slots=True)
class Round:
    """One fault and its recovery; times are seconds."""

    kind: str
    recovery_s: float
    takeover_s: float | None
    is_mid_stream: bool
    stale_overwrites: int


@dataclass(slots=True)
class RunRecord:
    """The record of one stack: its rounds, and what was lost or differs."""

    rounds: list[Round] = field(default_factory=list)
    events: int = 0
    repeats: int = 0
    unanswered: int = 0
    longest_wait_s: float = 0.0
    lost_from_changelog: int = 0
    lost_from_stores: int = 0
    applied_twice: int = 0
    differing: int = 0
    state_equal: bool = False
    stale_overwrites: int = 0
    replayed: int = 0
    answered_by_two_ids: int = 0
    sent_again: int = 0
    uncommitted_answered: int = 0
    accidents: Counter[str] = field(default_factory=Counter)
    trouble: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Events never answered, and entries missing from the windows, wherever more are."""
        return self.unanswered + max(self.lost_from_changelog, self.lost_from_stores)

    @property
    def is_kept(self) -> bool:
        """Whether every promise held."""
        num_wrong = self.lost + self.applied_twice + self.uncommitted_answered
        return num_wrong == 0 and self.state_equal and not self.trouble


def close(arena: Arena, record: RunRecord, *, within_s: float) -> None:
    """End the flow of *arena* and its workers, and write what they left into *record*."""
    ledger = arena.ledger
    ledger.stop_feeding()
    if not record.trouble:
        eventually(lambda: not ledger.unanswered(), within_s=within_s)
        _await_standstill(arena.stack.kafka, within_s=within_s)
    arena.actors.stop(_STOPPED_WITHIN_S)
    published = published_windows(arena.stack.kafka)
    kept = kept_windows([worker.state_dir for worker in arena.actors.workers], arena.stack.kafka)
    events = list(ledger.events.values())
    undisturbed = oracle.undisturbed(events, WindowPolicy())
    wanted = oracle.expected(events)
    found = {user: oracle.drawn(record) for user, record in published.items()}
    stored = {user: oracle.drawn(record) for user, record in kept.items()}
    record.events, record.repeats = len(events), ledger.num_repeats
    record.unanswered = len(ledger.unanswered())
    record.longest_wait_s = ledger.longest_wait_s
    record.lost_from_changelog = oracle.num_lost(wanted, found)
    record.lost_from_stores = oracle.num_lost(wanted, stored)
    record.applied_twice = oracle.num_twice([*found.values(), *stored.values()])
    record.differing = sum(published.get(user) != record for user, record in undisturbed.items())
    digests = {oracle.digest(state) for state in (undisturbed, published, kept)}
    record.state_equal = len(digests) == 1 and found == wanted
    record.stale_overwrites = ledger.counts["stale_overwrites"]
    record.replayed = max(0, ledger.counts["unchanged_windows"] - record.repeats)
    record.answered_by_two_ids = ledger.num_answered_by_two
    record.sent_again = ledger.counts["sent_again"]
    record.uncommitted_answered = ledger.counts["uncommitted_answered"]
    record.accidents += arena.actors.accidents


def _await_standstill(kafka: KafkaSettings, *, within_s: float) -> None:
    """Wait until the group reads no further; what is read again was answered before.

    Marks of transactions at the end of a partition are never committed.
    """
    counts = {
        kafka.layout.name(topic): kafka.user_partitions
        for topic in TOPICS
        if topic.key_field == "user_id"
    }
    looks: deque[int] = deque(maxlen=3)

    def stands_still() -> bool:
        looks.append(num_unread_by(kafka, "streams", counts))
        return looks.count(looks[0]) == looks.maxlen

    eventually(stands_still, within_s=within_s, every_s=1.0)


def summary(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Return the figures of all stacks together."""
    rounds = [played for record in records for played in record.rounds]
    takeovers = [r.takeover_s for r in rounds if r.kind == "kill" and r.takeover_s is not None]
    by_kind = {kind: [r.recovery_s for r in rounds if r.kind == kind] for kind in _kinds(rounds)}
    return {
        "rounds": len(rounds),
        "events": _sum(records, "events"),
        "repeats": _sum(records, "repeats"),
        "faults": {kind: len(times) for kind, times in by_kind.items()},
        "lost": sum(record.lost for record in records),
        "unanswered": _sum(records, "unanswered"),
        "applied_twice": _sum(records, "applied_twice"),
        "uncommitted_answered": _sum(records, "uncommitted_answered"),
        "sent_again": _sum(records, "sent_again"),
        "state_equal": all(record.state_equal for record in records),
        "users_differing": _sum(records, "differing"),
        "recovery_s": _spread([r.recovery_s for r in rounds]),
        "recovery_s_by_fault": {kind: _spread(times) for kind, times in by_kind.items()},
        "takeover_s_after_sigkill": _spread(takeovers),
        "longest_wait_s": round(max((record.longest_wait_s for record in records), default=0.0), 2),
        "stale_overwrites": _sum(records, "stale_overwrites"),
        "replayed": _sum(records, "replayed"),
        "answered_by_two_ids": _sum(records, "answered_by_two_ids"),
        "not_mid_stream": sum(not r.is_mid_stream for r in rounds),
        "accidents": dict(sum((record.accidents for record in records), Counter())),
        "trouble": [line for record in records for line in record.trouble],
        "stacks": len(records),
    }


def _kinds(rounds: Sequence[Round]) -> list[str]:
    return sorted({played.kind for played in rounds})


def _sum(records: Sequence[RunRecord], name: str) -> int:
    return sum(getattr(record, name) for record in records)


def _spread(times: Sequence[float]) -> dict[str, float] | None:
    if not times:
        return None
    return {"p50": round(statistics.median(times), 2), "max": round(max(times), 2)}
