"""Hold item vectors of generations that are not built yet.

They are bounded in number, and one whose generation nobody announces within `HOLD_S` is a dead
letter: a held record keeps the committed offset, and with it the start of the next start.
"""

from collections.abc import Callable, Iterable, Mapping
from time import monotonic

from contract.errors import DecodeError
from contract.kafka.records import Received
from contract.wire.events import ItemVector
from index_sync.records import BadRecord, read

HOLD_S = 600.0


class HeldVectors:
    """The held records, each with the time since which it is held."""

    def __init__(self, most: int, *, monotonic: Callable[[], float] = monotonic) -> None:
        self._most = most
        self._monotonic = monotonic
        self._held: list[tuple[float, Received]] = []
        self._taken_since_s: dict[tuple[int, int], float] = {}
        self._oldest_s = float("inf")

    def __len__(self) -> int:
        return len(self._held)

    @property
    def room(self) -> int:
        """How many more may be held."""
        return self._most - len(self._held)

    @property
    def is_any_late(self) -> bool:
        """Whether one has been held for `HOLD_S`."""
        return self._monotonic() - self._oldest_s >= HOLD_S

    def add(self, records: Iterable[Received]) -> None:
        """Hold *records*; one that `take` returned before keeps its earlier time."""
        now_s, since_s = self._monotonic(), self._taken_since_s
        self._hold(
            (since_s.pop((record.partition, record.offset), now_s), record) for record in records
        )
        self._taken_since_s = {}

    def take(self) -> list[Received]:
        """Return and release all records; the caller may `add` some again."""
        taken, self._held, self._oldest_s = self._held, [], float("inf")
        self._taken_since_s = {(r.partition, r.offset): since_s for since_s, r in taken}
        return [record for _, record in taken]

    def take_late(self, is_announced: Callable[[int], bool]) -> list[BadRecord]:
        """Return, as bad records, those held for `HOLD_S` whose generation is not announced."""
        if not self.is_any_late:
            return []
        now_s, held, late = self._monotonic(), self._held, []
        self._held, self._oldest_s = [], float("inf")
        for since_s, record in held:
            if now_s - since_s < HOLD_S:
                self._hold([(since_s, record)])
            elif is_announced(_generation(record)):
                self._hold([(now_s, record)])
            else:
                detail = f"no bundle of generation {_generation(record)} within {HOLD_S:g} s"
                late.append(BadRecord(record, DecodeError("generation_unknown", detail)))
        return late

    def bounded(self, offsets: Mapping[int, int]) -> dict[int, int]:
        """Return *offsets* by partition, lowered to the first held record of each."""
        bounded = dict(offsets)
        for _, record in self._held:
            bounded[record.partition] = min(bounded[record.partition], record.offset)
        return bounded

    def _hold(self, held: Iterable[tuple[float, Received]]) -> None:
        for since_s, record in held:
            self._held.append((since_s, record))
            self._oldest_s = min(self._oldest_s, since_s)


def _generation(record: Received) -> int:
    _, vector = read(record, ItemVector)
    assert vector is not None, "only vectors are held"
    return vector.generation
