"""Which events were sent, which were answered, and what is still owed.

One rule: an event that was sent and not dead-lettered is owed one recommendation. The two
topics are read side by side, so an answer may be seen before its event. What is remembered is
bounded: repeated deliveries are recognized as long as they are not too far apart.
"""

from dataclasses import dataclass, field
from typing import TypeVar

from nextwatch.demo.figures.latency import Latencies
from nextwatch.demo.figures.minutes import Minutes

Position = tuple[str, int, int]
"""Topic, partition and offset of a record."""

MOST_REMEMBERED = 20_000
MOST_OWED = 100_000

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class Ledger:
    """The account of all events; repeated deliveries of either side change nothing."""

    num_sent: int = 0
    num_unreadable: int = 0
    num_given_up: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    minutes: Minutes = field(default_factory=Minutes)
    _owed: dict[str, tuple[int, Position]] = field(default_factory=dict)
    _owed_at: dict[Position, str] = field(default_factory=dict)
    _answered_ms: dict[str, int] = field(default_factory=dict)
    _early: set[str] = field(default_factory=set)
    _dead: dict[Position, None] = field(default_factory=dict)

    def sent(self, event_id: str | None, position: Position, timestamp_ms: int) -> None:
        """Note an event that its producer stamped with *timestamp_ms*; without id if unreadable."""
        self.num_sent += 1
        self.minutes.sent(timestamp_ms)
        if event_id is None:
            self.num_unreadable += 1
            return
        event_id = event_id.lower()
        if event_id in self._early:
            self._early.remove(event_id)
            self._settle(timestamp_ms, self._answered_ms[event_id])
        elif (
            event_id not in self._answered_ms
            and event_id not in self._owed
            and position not in self._dead
        ):
            self._owe(event_id, position, timestamp_ms)

    def answered(self, event_id: str, receipt_ms: int) -> None:
        """Note a recommendation that names the event as its cause; only the first one counts."""
        event_id = event_id.lower()
        if event_id in self._answered_ms:
            return
        self._answered_ms[event_id] = receipt_ms
        owed = self._owed.pop(event_id, None)
        if owed is None:
            self._early.add(event_id)
        else:
            sent_ms, position = owed
            del self._owed_at[position]
            self._settle(sent_ms, receipt_ms)
        if (forgotten := _drop_oldest(self._answered_ms, MOST_REMEMBERED)) is not None:
            self._early.discard(forgotten)

    def dead_lettered(self, position: Position) -> None:
        """Note that the record at *position* was rejected: nothing is owed for it."""
        self._dead[position] = None
        _drop_oldest(self._dead, MOST_REMEMBERED)
        event_id = self._owed_at.pop(position, None)
        if event_id is not None:
            del self._owed[event_id]

    @property
    def num_answered(self) -> int:
        """How many events have got their recommendation."""
        return len(self.latencies)

    @property
    def num_owed(self) -> int:
        """How many accepted events have no recommendation yet."""
        return len(self._owed) + self.num_given_up

    def oldest_owed_ms(self) -> int | None:
        """Return when the event that has waited longest was sent; None where none waits."""
        return next(iter(self._owed.values()))[0] if self._owed else None

    def _owe(self, event_id: str, position: Position, timestamp_ms: int) -> None:
        self._owed[event_id] = (timestamp_ms, position)
        self._owed_at[position] = event_id
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
