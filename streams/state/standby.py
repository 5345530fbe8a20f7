"""Keep warm copies of other workers' partitions, so that a takeover reads few records.

A copy is an ordinary store that keeps merging the changelog of a partition somebody else owns.
One rule: a partition has one holder in this process. When the group makes it ours, the copy is
handed over open, as it is, inside the rebalance; a copy that is being read gives way at once.
"""

from collections.abc import Callable, Collection
from threading import Event, Lock

import structlog

from contract.errors import BrokerUnavailable
from contract.kafka.records import Position
from streams.state.partitions import Partitions

log = structlog.get_logger()


class Standby:
    """Follows the partitions that a rebalance names, from a thread of its own.

    *copies* must read its changelog until *is_wanted* is set, and no longer.
    """

    def __init__(self, copies: Partitions, is_wanted: Event) -> None:
        self._copies = copies
        self._is_wanted = is_wanted
        self._lock = Lock()
        self._numbers: frozenset[int] = frozenset()

    def assign(
        self,
        owned: Partitions,
        numbers: Collection[int],
        assign: Callable[[], dict[Position, int]],
        *,
        copied: Collection[int],
    ) -> dict[Position, int]:
        """Hand the copies of *numbers* over to *owned*, *assign* them, then follow *copied*."""
        self.hand_over(numbers, owned)
        start = assign()
        self.follow(set(copied) - {at.partition for at in start})
        return start

    def hand_over(self, numbers: Collection[int], to: Partitions) -> None:
        """Give *to* the copies of *numbers*, and follow nothing until `follow`."""
        self._is_wanted.set()
        with self._lock:
            copies = self._copies.release(numbers)
        to.adopt(copies)
        if copies:
            log.info("copies_handed_over", partitions=[copy.number for copy in copies])

    def follow(self, numbers: Collection[int]) -> None:
        """Keep copies of exactly *numbers*, which are not owned here, from the next `refresh`."""
        with self._lock:
            self._numbers = frozenset(numbers)
            self._is_wanted.clear()

    def refresh(self) -> None:
        """Bring the copies up to date, unless a rebalance wants them."""
        with self._lock:
            if self._is_wanted.is_set():
                return
            self._copies.hold(self._numbers)
            try:
                self._copies.restore()
            except BrokerUnavailable as error:
                log.warning("copies_behind", reason=str(error))

    def run(self, stop: Event, *, every_s: float) -> None:
        """Refresh every *every_s* seconds until *stop*."""
        while not stop.wait(every_s):
            self.refresh()

    def close(self) -> None:
        """Close the copies, leaving clean stores behind."""
        self._is_wanted.set()
        with self._lock:
            self._copies.close()
