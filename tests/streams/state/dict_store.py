"""A store in memory; the suite of the stores (`test_store`) runs over it and over RocksDB."""

from collections.abc import Iterator, Mapping, Sequence


class DictStore:
    """A store that lives as long as the process."""

    def __init__(self) -> None:
        self._windows: dict[str, bytes] = {}
        self._offsets: dict[str, int] = {}
        self._markers: dict[bytes, int] = {}

    def get(self, user_ids: Sequence[str]) -> list[bytes | None]:
        """Return the record of each user, None for users never seen."""
        return [self._windows.get(user_id) for user_id in user_ids]

    def write(
        self,
        windows: Mapping[str, bytes | None],
        offsets: Mapping[str, int],
        markers: Mapping[bytes, int] = {},
    ) -> None:
        """Put *windows*, *offsets* and *markers*."""
        for user_id, record in windows.items():
            if record is None:
                self._windows.pop(user_id, None)
            else:
                self._windows[user_id] = record
        self._offsets.update(offsets)
        self._markers.update(markers)

    def offset(self, name: str) -> int | None:
        """Return the offset last written under *name*."""
        return self._offsets.get(name)

    def markers(self) -> dict[bytes, int]:
        """Return every marker."""
        return dict(self._markers)

    def scan(self, start: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield every user from *start* on and the record, ordered by user."""
        yield from sorted(item for item in self._windows.items() if item[0] >= start)

    def close(self) -> None:
        """Do nothing."""
