"""Which events were sent, which were answered, and what is still owed.

One rule: an event that was sent and not dead-lettered is owed one recommendation. The two
topics are read side by side, so an answer may be seen before its event.
"""

from dataclasses import dataclass, field

from contract.identifiers import event_key
from nextwatch.demo.latency import Latencies

Position = tuple[str, int, int]
"""Topic, partition and offset of a record."""

_MOST_REMEMBERED = 200_000


@dataclass(slots=True)
class Ledger:
    """The account of all events; repeated deliveries of either side change nothing."""

    num_sent: int = 0
    num_unreadable: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    _owed: dict[bytes, tuple[int, Position]] = field(default_factory=dict)
    _answered_ms: dict[bytes, int] = field(default_factory=dict)
    _early: set[bytes] = field(default_factory=set)
    _dead: set[Position] = field(default_factory=set)

    def sent(self, event_id: str | None, position: Position, timestamp_ms: int) -> None:
        """Note an event that its producer stamped with *timestamp_ms*; without id if unreadable."""
        self.num_sent += 1
        if event_id is None:
            self.num_unreadable += 1
            return
        key = event_key(event_id)
        if key in self._early:
            self._early.remove(key)
            self.latencies.add(self._answered_ms[key] - timestamp_ms)
        elif key not in self._answered_ms:
            self._owed.setdefault(key, (timestamp_ms, position))

    def answered(self, event_id: str, receipt_ms: int) -> None:
        """Note a recommendation that names the event as its cause; only the first one counts."""
        key = event_key(event_id)
        if key in self._answered_ms:
            return
        self._answered_ms[key] = receipt_ms
        owed = self._owed.pop(key, None)
        if owed is None:
            self._early.add(key)
        else:
            self.latencies.add(receipt_ms - owed[0])
        self._forget_oldest()

    def dead_lettered(self, position: Position) -> None:
        """Note that the record at *position* was refused: nothing is owed for it."""
        self._dead.add(position)

    @property
    def num_owed(self) -> int:
        """How many accepted events have no recommendation yet."""
        return sum(position not in self._dead for _, position in self._owed.values())

    def _forget_oldest(self) -> None:
        while len(self._answered_ms) > _MOST_REMEMBERED:
            oldest = next(iter(self._answered_ms))
            del self._answered_ms[oldest]
            self._early.discard(oldest)
