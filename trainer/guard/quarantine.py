"""List the records that must not be learned from, by topic, partition and offset.

The list is a file beside the checkpoints, and not in them: going back to an older checkpoint must
not forget why. Users' windows still move on with these records, since serving has seen them, too.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from contract.errors import ContractError
from contract.process.atomic_write import replace_file
from contract.wire.topics import IMPRESSIONS, RANKING_LOG, WATCH_EVENTS

TOPICS = (WATCH_EVENTS.name, IMPRESSIONS.name, RANKING_LOG.name)
FILE = "quarantine.json"
MAX_ENTRIES = 1_000

Offsets = dict[str, dict[int, int]]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """The records from *first* up to but without *end*, and why they are left out."""

    reason: str
    since_ms: int
    generation: int
    """The generation that was gone back to."""
    first: Offsets
    end: Offsets

    def has(self, topic: str, partition: int, offset: int) -> bool:
        """Return whether the record is one of them."""
        end = self.end.get(topic, {}).get(partition, 0)
        return self.first.get(topic, {}).get(partition, 0) <= offset < end

    @property
    def num_records(self) -> int:
        """How many offsets it covers."""
        return sum(
            max(0, end - self.first.get(topic, {}).get(partition, 0))
            for topic, of_topic in self.end.items()
            for partition, end in of_topic.items()
        )


class Quarantine:
    """The list in one directory."""

    def __init__(self, directory: Path) -> None:
        """Read the list.

        Raises:
            ContractError: it is damaged.
        """
        self._path = directory / FILE
        self.entries: list[Entry] = self._read()
        self._ends = self._last_ends()

    def add(
        self,
        *,
        reason: str,
        now_ms: int,
        generation: int,
        first: Mapping[str, Mapping[int, int]],
        end: Mapping[str, Mapping[int, int]],
    ) -> Entry:
        """Leave out what lies between *first* and *end*, and write the list."""
        entry = Entry(
            reason=reason,
            since_ms=now_ms,
            generation=generation,
            first={topic: dict(first.get(topic, {})) for topic in TOPICS},
            end={topic: dict(end.get(topic, {})) for topic in TOPICS},
        )
        self.entries = [*self.entries, entry][-MAX_ENTRIES:]
        self._ends = self._last_ends()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._path, msgspec.json.encode(self.entries))
        return entry

    def clear(self) -> None:
        """Leave nothing out any more.

        Raises:
            OSError: the disk cannot be written to.
        """
        self._path.unlink(missing_ok=True)
        self.entries, self._ends = [], {}

    def has(self, topic: str, partition: int, offset: int) -> bool:
        """Return whether the record must not be learned from."""
        if offset >= self._ends.get((topic, partition), 0):
            return False
        return any(entry.has(topic, partition, offset) for entry in self.entries)

    def _last_ends(self) -> dict[tuple[str, int], int]:
        """Return by topic and partition where the last entry ends: most records come after it."""
        ends: dict[tuple[str, int], int] = {}
        for entry in self.entries:
            for topic, of_topic in entry.end.items():
                for partition, end in of_topic.items():
                    ends[topic, partition] = max(end, ends.get((topic, partition), 0))
        return ends

    def _read(self) -> list[Entry]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Entry])
        except FileNotFoundError:
            return []
        except msgspec.MsgspecError as error:
            raise ContractError(
                f"{self._path} cannot be read: {error}: it lists the records that must not be "
                "learned from; restore it, or delete it to learn from all of them"
            ) from error
