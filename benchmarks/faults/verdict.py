"""What came of it: the books of each stack closed against the oracle, and added up.

A stack keeps its promises when nothing accepted is lost, nothing stands twice in a window, nothing
of an aborted transaction was answered, and all windows, in the changelog and in the stores, are to
the byte those of an undisturbed run.
"""

import statistics
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks.faults import oracle
from benchmarks.faults.arena import Arena
from benchmarks.player import eventually
from contract.kafka.client import client_config, consumer_config, take
from contract.kafka.topic_ids import topic_ids
from contract.process.settings import KafkaSettings
from contract.wire.topics import TOPICS, WINDOWS
from models.history.history import WindowPolicy
from nextwatch.unread import num_unread_by
from streams.state.partition import CHANGELOG, LOG_ID
from streams.state.store import RocksMemory, RocksStore

_ID_WITHIN_S = 10.0
_STOPPED_WITHIN_S = 12.0
_CACHE_MB = 8


@dataclass(slots=True)
class Round:
    """One fault and how it went; times are seconds."""

    kind: str
    recovery_s: float
    takeover_s: float | None
    is_mid_stream: bool
    stale_overwrites: int


@dataclass(slots=True)
class Books:
    """What one stack came to."""

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


def close(arena: Arena, books: Books, *, within_s: float) -> None:
    """End the flow of *arena* and its workers, and write into *books* what they left."""
    ledger = arena.ledger
    ledger.stop_feeding()
    if not books.trouble:
        eventually(lambda: not ledger.unanswered(), within_s=within_s)
        _await_standstill(arena.stack.kafka, within_s=within_s)
    arena.crew.stop(_STOPPED_WITHIN_S)
    published = published_windows(arena.stack.kafka)
    kept = kept_windows([worker.state_dir for worker in arena.crew.workers], arena.stack.kafka)
    events = list(ledger.events.values())
    undisturbed = oracle.undisturbed(events, WindowPolicy())
    wanted = oracle.expected(events)
    found = {user: oracle.drawn(record) for user, record in published.items()}
    stored = {user: oracle.drawn(record) for user, record in kept.items()}
    books.events, books.repeats = len(events), ledger.num_repeats
    books.unanswered = len(ledger.unanswered())
    books.longest_wait_s = ledger.longest_wait_s
    books.lost_from_changelog = oracle.num_lost(wanted, found)
    books.lost_from_stores = oracle.num_lost(wanted, stored)
    books.applied_twice = oracle.num_twice([*found.values(), *stored.values()])
    books.differing = sum(published.get(user) != record for user, record in undisturbed.items())
    digests = {oracle.digest(state) for state in (undisturbed, published, kept)}
    books.state_equal = len(digests) == 1 and found == wanted
    books.stale_overwrites = ledger.counts["stale_overwrites"]
    books.replayed = max(0, ledger.counts["unchanged_windows"] - books.repeats)
    books.answered_by_two_ids = ledger.num_answered_by_two
    books.sent_again = ledger.counts["sent_again"]
    books.uncommitted_answered = ledger.counts["uncommitted_answered"]
    books.accidents += arena.crew.accidents


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


def published_windows(kafka: KafkaSettings) -> dict[str, bytes]:
    """Return the last record of each user in the changelog, read anew to its end."""
    config = consumer_config(kafka, group_id=f"verdict-{uuid4()}") | {"enable.partition.eof": True}
    consumer = Consumer(config)
    unread = set(range(kafka.user_partitions))
    consumer.assign([TopicPartition(kafka.layout.name(WINDOWS), p, 0) for p in unread])
    newest: dict[str, bytes | None] = {}
    while unread:
        for message in take(consumer, 1_000, within_s=0.2):
            error, key = message.error(), message.key()
            if error is None and key is not None:
                newest[key.decode()] = message.value()
            elif error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                unread.discard(message.partition() or 0)
    consumer.close()
    return {user: record for user, record in newest.items() if record is not None}


def kept_windows(state_dirs: Sequence[Path], kafka: KafkaSettings) -> dict[str, bytes]:
    """Return what the stopped workers keep: of each partition the store that saw most.

    Offsets of a changelog that was created again say more than any of the one before.
    """
    name = kafka.layout.name(WINDOWS)
    identity = topic_ids(AdminClient(client_config(kafka)), {name}, within_s=_ID_WITHIN_S).get(name)
    kept: dict[str, bytes] = {}
    memory = RocksMemory.of(_CACHE_MB)
    for number in range(kafka.user_partitions):
        newest, windows = (False, -1), {}
        for directory in (path / str(number) for path in state_dirs):
            if not directory.exists():
                continue
            store = RocksStore(directory, memory)
            is_of_log = store.offset(LOG_ID + CHANGELOG) == identity
            seen = is_of_log, store.offset(CHANGELOG) or 0
            if seen > newest:
                newest, windows = seen, dict(store.scan())
            store.close()
        kept |= windows
    return kept


def summary(all_books: Sequence[Books]) -> dict[str, Any]:
    """Return the figures of all stacks together."""
    rounds = [played for books in all_books for played in books.rounds]
    takeovers = [r.takeover_s for r in rounds if r.kind == "kill" and r.takeover_s is not None]
    by_kind = {kind: [r.recovery_s for r in rounds if r.kind == kind] for kind in _kinds(rounds)}
    return {
        "rounds": len(rounds),
        "events": _sum(all_books, "events"),
        "repeats": _sum(all_books, "repeats"),
        "faults": {kind: len(times) for kind, times in by_kind.items()},
        "lost": sum(books.lost for books in all_books),
        "unanswered": _sum(all_books, "unanswered"),
        "applied_twice": _sum(all_books, "applied_twice"),
        "uncommitted_answered": _sum(all_books, "uncommitted_answered"),
        "sent_again": _sum(all_books, "sent_again"),
        "state_equal": all(books.state_equal for books in all_books),
        "users_differing": _sum(all_books, "differing"),
        "recovery_s": _spread([r.recovery_s for r in rounds]),
        "recovery_s_by_fault": {kind: _spread(times) for kind, times in by_kind.items()},
        "takeover_s_after_sigkill": _spread(takeovers),
        "longest_wait_s": round(max((books.longest_wait_s for books in all_books), default=0.0), 2),
        "stale_overwrites": _sum(all_books, "stale_overwrites"),
        "replayed": _sum(all_books, "replayed"),
        "answered_by_two_ids": _sum(all_books, "answered_by_two_ids"),
        "not_mid_stream": sum(not r.is_mid_stream for r in rounds),
        "accidents": dict(sum((books.accidents for books in all_books), Counter())),
        "trouble": [line for books in all_books for line in books.trouble],
        "stacks": len(all_books),
    }


def _kinds(rounds: Sequence[Round]) -> list[str]:
    return sorted({played.kind for played in rounds})


def _sum(all_books: Sequence[Books], name: str) -> int:
    return sum(getattr(books, name) for books in all_books)


def _spread(times: Sequence[float]) -> dict[str, float] | None:
    if not times:
        return None
    return {"p50": round(statistics.median(times), 2), "max": round(max(times), 2)}
