"""Apply records of two readers of the same topics, so that a newer one is never replaced.

At the start of the console one thread reads what was there, from the beginning, while another
follows what comes. Without an order between them, a record from long ago would be applied after
one of now of the same key, and stay. An offset is compared within a partition alone: all valid
records of a key are on one.
"""

from collections.abc import Callable
from threading import Lock

from contract.kafka.records import Position, Received


class NewestRecords:
    """Passes records on to *apply*, one at a time, until `end_past` only those that are newer."""

    def __init__(self, apply: Callable[[Received], None]) -> None:
        self._apply = apply
        self._lock = Lock()
        self._live: dict[tuple[Position, bytes | None], int] | None = {}

    def take_live(self, record: Received) -> None:
        """Apply a record that just came; until the past is read, remember its offset."""
        with self._lock:
            if self._live is not None:
                self._live[record.at, record.key] = record.offset
            self._apply(record)

    def take_past(self, record: Received) -> None:
        """Apply a record of the past, unless a newer one of its key came meanwhile."""
        with self._lock:
            newest = (self._live or {}).get((record.at, record.key), -1)
            if record.offset > newest:
                self._apply(record)

    def end_past(self) -> None:
        """Note that the past is read: what comes from now on is newer than all of it."""
        with self._lock:
            self._live = None
