"""Keep values in bounded memory: those used least lately go first."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

V = TypeVar("V")

ENTRY_BYTES = 512
"""What an entry takes beside its value, generously."""


class BoundedMemory(Generic[V]):
    """Values by text, of *max_bytes* together; *size_of* returns the bytes of one value."""

    def __init__(self, max_bytes: int, size_of: Callable[[V], int]) -> None:
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._entries: OrderedDict[str, V] = OrderedDict()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> V | None:
        """Return the value of *key*, which counts as used now; None if there is none."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: str, value: V) -> None:
        """Keep *value* for *key*; others may go for it."""
        self.remove(key)
        self._entries[key] = value
        self.num_bytes += ENTRY_BYTES + self._size_of(value)
        while self.num_bytes > self._max_bytes:
            self.remove(next(iter(self._entries)))

    def remove(self, key: str) -> None:
        """Forget *key*; an unknown one is ignored."""
        value = self._entries.pop(key, None)
        if value is not None:
            self.num_bytes -= ENTRY_BYTES + self._size_of(value)
