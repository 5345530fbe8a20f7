"""Track whether the follower has read the topics to the ends that they had at the start.

A partition counts as read once librdkafka says that it is at its end, or once a record lies at or
behind the end that was known with its first record: one that is written all the time may never be
at its end. Neither compares a position with an offset that no record has, so that markers of
transactions and topics that are emptied meanwhile hold nothing up.
"""

from collections.abc import Callable, Collection

Place = tuple[str, int]
"""A topic by its name on the cluster, and a partition."""

_MOST_NAMED = 3


class CatchUp:
    """The partitions that are still to be read; written by one thread, read by any."""

    def __init__(self, on_end: Callable[[], None] = lambda: None) -> None:
        self._on_end = on_end
        self._unread: frozenset[Place] = frozenset()
        self._ends: dict[Place, int] = {}
        self.is_over = False

    def expect(self, places: Collection[Place]) -> None:
        """Start with all of *places* unread."""
        self._unread = frozenset(places)

    def is_unread(self, topic: str | None = None) -> bool:
        """Return whether a partition is unread, of any topic or of *topic*."""
        return any(topic in (None, name) for name, _ in self._unread)

    def note_end(self, place: Place) -> None:
        """Note that the reader is at the end of *place*."""
        self._unread -= {place}

    def note_record(self, place: Place, offset: int, end: Callable[[], int]) -> None:
        """Note a record of *place*; *end* returns the partition's end, below 0 while unknown."""
        if place not in self._unread:
            return
        known = self._ends.get(place, -1)
        if known < 0:
            known = self._ends[place] = end()
        if 0 <= known <= offset + 1:
            self.note_end(place)

    def end(self) -> None:
        """Note that what was read is in service."""
        self.is_over = True
        self._on_end()

    @property
    def reason(self) -> str:
        """The reason why the catalogue is not complete yet; empty when it is."""
        if self.is_over:
            return ""
        names = [f"{topic}/{partition}" for topic, partition in sorted(self._unread)]
        if not names:
            return "what was read from the topics of the catalogue is not in service yet"
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        return f"not yet read to the end: {', '.join(names[:_MOST_NAMED])}{more}"
