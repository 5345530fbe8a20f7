"""Count the events that were sent, answered, and not yet answered.

One rule: an event that was sent and not dead-lettered is owed one recommendation. The two
topics are read side by side, so an answer may be seen before its event: it counts once the event
does, and the counts of both belong together at any moment. What is remembered is bounded: repeated
deliveries are recognized as long as they are not too far apart.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from contract.wire.identifiers import event_key
from nextwatch.demo.figures.latency import Latencies
from nextwatch.demo.figures.minutes import Minutes

Position = tuple[str, int, int]
"""Topic, partition and offset of a record."""

MOST_REMEMBERED = 20_000
MOST_OWED = 100_000

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class Answer:
    """One recommendation; it *is_counted* once one of its events was seen."""

    is_counted: bool = False


@dataclass(slots=True)
class Ledger:
    """Matches events with recommendations; repeated deliveries change nothing."""

    num_sent: int = 0
    num_recommendations: int = 0
    num_unreadable: int = 0
    num_given_up: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    minutes: Minutes = field(default_factory=Minutes)
    _owed: dict[bytes, tuple[int, Position]] = field(default_factory=dict)
    _owed_at: dict[Position, bytes] = field(default_factory=dict)
    _answered_ms: dict[bytes, int] = field(default_factory=dict)
    _early: dict[bytes, list[Answer]] = field(default_factory=dict)
    _dead: dict[Position, None] = field(default_factory=dict)

    def sent(self, event_id: str | None, position: Position, timestamp_ms: int) -> None:
        """Note an event with the timestamp *timestamp_ms*; without id if it is unreadable."""
        self.num_sent += 1
        self.minutes.sent(timestamp_ms)
        if event_id is None:
            self.num_unreadable += 1
            return
        key = event_key(event_id)
        if key in self._early:
            for answer in self._early.pop(key):
                self._count(answer)
            self._settle(timestamp_ms, self._answered_ms[key])
        elif key not in self._answered_ms and key not in self._owed and position not in self._dead:
            self._owe(key, position, timestamp_ms)

    def answered(self, event_ids: Iterable[str], receipt_ms: int) -> None:
        """Note a recommendation that names these events as its causes.

        Of several that answer one event, each is counted, and only the first one settles it.
        """
        answer = Answer()
        for event_id in event_ids:
            self._answer(event_key(event_id), answer, receipt_ms)

    def dead_lettered(self, position: Position) -> None:
        """Note that the record at *position* was rejected, so that no answer is due."""
        self._dead[position] = None
        _drop_oldest(self._dead, MOST_REMEMBERED)
        key = self._owed_at.pop(position, None)
        if key is not None:
            del self._owed[key]

    @property
    def num_answered(self) -> int:
        """How many events have a recommendation."""
        return len(self.latencies)

    @property
    def num_owed(self) -> int:
        """How many accepted events have no recommendation yet."""
        return len(self._owed) + self.num_given_up

    def oldest_owed_ms(self) -> int | None:
        """Return the time of the event that has waited longest; None if none waits."""
        return next(iter(self._owed.values()))[0] if self._owed else None

    def _answer(self, key: bytes, answer: Answer, receipt_ms: int) -> None:
        if key in self._early:
            self._early[key].append(answer)
            return
        if key in self._answered_ms:
            self._count(answer)
            return
        self._answered_ms[key] = receipt_ms
        owed = self._owed.pop(key, None)
        if owed is None:
            self._early[key] = [answer]
        else:
            sent_ms, position = owed
            del self._owed_at[position]
            self._count(answer)
            self._settle(sent_ms, receipt_ms)
        if (forgotten := _drop_oldest(self._answered_ms, MOST_REMEMBERED)) is not None:
            self._early.pop(forgotten, None)

    def _count(self, answer: Answer) -> None:
        if not answer.is_counted:
            answer.is_counted = True
            self.num_recommendations += 1

    def _owe(self, key: bytes, position: Position, timestamp_ms: int) -> None:
        self._owed[key] = (timestamp_ms, position)
        self._owed_at[position] = key
        if len(self._owed) > MOST_OWED:
            _, given_up = self._owed.pop(next(iter(self._owed)))
            del self._owed_at[given_up]
            self.num_given_up += 1

    def _settle(self, sent_ms: int, receipt_ms: int) -> None:
        self.latencies.add(receipt_ms - sent_ms, ended_ms=receipt_ms)
        self.minutes.answered(sent_ms, receipt_ms - sent_ms)


def _drop_oldest(kept: dict[K, V], most: int) -> K | None:
    """Forget the oldest key of *kept* where there are more than *most*, and return it."""
    if len(kept) <= most:
        return None
    oldest = next(iter(kept))
    del kept[oldest]
    return oldest
