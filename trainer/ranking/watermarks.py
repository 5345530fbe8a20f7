"""Tell up to which event time a partition has been read, by all of its topics.

The watermark of a partition is the least over its topics of the newest event time read there. Were
it the greatest, a trainer that catches up and happens to read impressions first would take every
one of them for not watched.

A topic in which nothing happens must not hold the others back. One that was read to its end, and
stayed there for a while, has told everything that was produced so far: its time is lifted to the
newest event time of the partition. Never to the clock: in a replayed log it is another year. How
long a topic stays at its end is not told by its records, so `IdlePlaces` measures it apart from the
watermarks, which depend on what they are told alone.
"""

from collections.abc import Collection, Iterable, Sequence

from contract.process.clock import Clock

Place = tuple[str, int]
"""A topic and a partition."""


class Watermarks:
    """The newest event times by partition and topic."""

    def __init__(self, topics: Sequence[str], *, clock: Clock) -> None:
        self._topics = tuple(topics)
        self._clock = clock
        self._newest_ms: dict[int, dict[str, int]] = {}

    @property
    def partitions(self) -> list[int]:
        """The partitions of which an event has been noted."""
        return list(self._newest_ms)

    def note(self, topic: str, partition: int, event_time_ms: int) -> None:
        """Note an event; one that is dated after now counts as of now."""
        times = self._newest_ms.setdefault(partition, {})
        if event_time_ms > times.get(topic, 0):
            times[topic] = max(times.get(topic, 0), min(event_time_ms, self._clock()))

    def lift(self, idle: Iterable[Place]) -> None:
        """Lift the times of the *idle* topics and partitions to the newest of their partitions."""
        for topic, partition in idle:
            times = self._newest_ms.get(partition)
            if times and topic in self._topics:
                times[topic] = max(times.values())

    def are_lifted(self, idle: Iterable[Place]) -> bool:
        """Return whether `lift` would change nothing."""
        return not any(
            self._newest_ms.get(partition, {}).get(topic, 0)
            < max(self._newest_ms.get(partition, {}).values(), default=0)
            for topic, partition in idle
            if topic in self._topics
        )

    def of(self, partition: int) -> int:
        """Return the watermark of *partition*; 0 as long as a topic has told nothing."""
        times = self._newest_ms.get(partition, {})
        return min(times.get(topic, 0) for topic in self._topics)

    def newest_ms(self, partition: int) -> int:
        """Return the newest event time noted of *partition*; of all, where none of it was."""
        of = [partition] if partition in self._newest_ms else self.partitions
        return max((max(self._newest_ms[one].values()) for one in of), default=0)

    def state(self) -> dict[int, dict[str, int]]:
        """Return the newest event times, for a checkpoint."""
        return {partition: dict(times) for partition, times in self._newest_ms.items()}

    def load(self, newest_ms: dict[int, dict[str, int]]) -> None:
        """Replace the times by those of `state`."""
        self._newest_ms = {partition: dict(times) for partition, times in newest_ms.items()}


class IdlePlaces:
    """Measures for how long topics and partitions have had no unread record."""

    def __init__(self, topics: Collection[str], *, idle_ms: int, clock: Clock) -> None:
        self._topics = frozenset(topics)
        self._idle_ms = idle_ms
        self._clock = clock
        self._since_ms: dict[Place, int] = {}

    def note(self, at_end: Collection[Place], read: Collection[Place] = ()) -> list[Place]:
        """Note which places are at their ends, *read* a moment ago or not; return the idle ones."""
        now_ms = self._clock()
        self._since_ms = {
            place: now_ms if place in read else self._since_ms.get(place, now_ms)
            for place in at_end
            if place[0] in self._topics
        }
        return sorted(
            place
            for place, since_ms in self._since_ms.items()
            if now_ms - since_ms >= self._idle_ms
        )
