"""Measure how far a reader is behind its partitions, in records and in seconds.

The lag in seconds is how long the oldest record that is not done has waited, as an upper bound: it
came after the last one that was done, and after the reader was last seen at the end. The second
bound keeps the first record after a quiet hour from counting as an hour of lag. Offsets have gaps
(markers of transactions), so a reader says itself whether it is at the end.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from contract.kafka.records import Position
from contract.metrics.definitions import LAG_RECORDS, LAG_SECONDS
from contract.metrics.metric import Metric, MetricSample
from contract.process.clock import Clock


@dataclass(slots=True)
class _Seen:
    records: int
    done_ms: int
    since_s: float
    at_end_s: float | None


class LagTracker:
    """The lag of each partition; one thread notes it, any may read `samples`.

    It is shown by the metrics *in_records* and *in_seconds*.
    """

    def __init__(
        self,
        clock: Clock,
        monotonic: Callable[[], float],
        *,
        in_records: Metric = LAG_RECORDS,
        in_seconds: Metric = LAG_SECONDS,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._in_records = in_records
        self._in_seconds = in_seconds
        self._seen: dict[Position, _Seen] = {}

    def note(self, at: Position, *, records: int, done_ms: int) -> None:
        """Note that *records* of *at* are not done, 0 at the end.

        *done_ms* is the timestamp of the newest record that is done; 0 while there is none.
        """
        now_s, before = self._monotonic(), self._seen.get(at)
        since_s = before.since_s if before is not None else now_s
        at_end_s = before.at_end_s if before is not None else None
        self._seen[at] = _Seen(
            max(records, 0), done_ms, since_s, now_s if records <= 0 else at_end_s
        )

    def keep_only(self, places: Collection[Position]) -> None:
        """Forget the partitions that are not in *places*: another process reads them."""
        self._seen = {at: seen for at, seen in self._seen.items() if at in places}

    def _seconds(self, seen: _Seen) -> float:
        if not seen.records:
            return 0.0
        bounds = []
        if seen.done_ms > 0:
            bounds.append((self._clock() - seen.done_ms) / 1_000)
        if seen.at_end_s is not None:
            bounds.append(self._monotonic() - seen.at_end_s)
        return max(0.0, min(bounds, default=self._monotonic() - seen.since_s))

    def longest_s(self, topics: Collection[str]) -> float:
        """Return the longest lag in seconds of the partitions of *topics*."""
        found = [seen for at, seen in self._seen.copy().items() if at.topic in topics]
        return max(map(self._seconds, found), default=0.0)

    def samples(self) -> Iterator[MetricSample]:
        """Yield the lag of each partition."""
        for at, seen in sorted(self._seen.copy().items()):
            labels = at.topic, str(at.partition)
            yield MetricSample(self._in_records, seen.records, labels)
            yield MetricSample(self._in_seconds, self._seconds(seen), labels)
