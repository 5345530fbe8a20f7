"""Count what the follower takes in: bundles, item vectors, and records that it cannot read.

How far it is behind is noted before records are applied, too: the lag of a follower that stands
still on them grows.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic

from contract.errors import BUNDLE_FAULTS
from contract.kafka.records import Position
from contract.metrics.buckets import BucketCounts
from contract.metrics.definitions import (
    BUNDLE_LOAD_SECONDS,
    BUNDLE_LOADS,
    BUNDLES_REFUSED,
    FOLLOWED_LAG_RECORDS,
    FOLLOWED_LAG_SECONDS,
    ROLLBACKS,
    SECONDS,
    SKIPPED,
    VECTORS_AGE,
)
from contract.metrics.lag import LagTracker
from contract.metrics.metric import MetricSample
from contract.metrics.refusals import RefusalCounts
from contract.process.clock import Clock, system_clock
from contract.wire.topics import (
    BY_NAME,
    HOTTEST_VIDEOS,
    ITEM_VECTORS,
    MODEL_BUNDLES,
    SIMILAR_VIDEOS,
    VIDEO_UPLOADS,
)

STORE_UNAVAILABLE = "store_unavailable"
_SKIPPED = {
    "vectors_skipped": ITEM_VECTORS.name,
    "uploads_skipped": VIDEO_UPLOADS.name,
    "announcements_skipped": MODEL_BUNDLES.name,
    "similar_skipped": SIMILAR_VIDEOS.name,
    "hottest_skipped": HOTTEST_VIDEOS.name,
}


@dataclass(slots=True)
class FollowerMetrics:
    """The figures of the follower; its thread writes, a scrape reads.

    *counts* are by name, or by name and reason (``vectors_skipped:json``).
    """

    clock: Clock = system_clock
    monotonic: Callable[[], float] = monotonic
    counts: Counter[str] = field(default_factory=Counter)
    load_s: BucketCounts = field(default_factory=lambda: BucketCounts(SECONDS))
    refused: Counter[str] = field(
        default_factory=lambda: Counter(dict.fromkeys([*BUNDLE_FAULTS, STORE_UNAVAILABLE], 0))
    )
    newest_vector_ms: int = 0
    done_ms: dict[Position, int] = field(default_factory=dict)
    """By partition the timestamp of the newest record that was applied."""
    lag: LagTracker = field(init=False)

    def __post_init__(self) -> None:
        self.lag = LagTracker(
            self.clock,
            self.monotonic,
            in_records=FOLLOWED_LAG_RECORDS,
            in_seconds=FOLLOWED_LAG_SECONDS,
        )

    def note_lag(self, behind: Mapping[Position, int]) -> None:
        """Note how many records of each partition are not applied."""
        for at, records in behind.items():
            self.lag.note(at, records=records, done_ms=self.done_ms.get(at, 0))

    def note_vector(self, ingested_ms: int) -> None:
        """Note the timestamp of a record of `item-vectors` that was applied."""
        self.newest_vector_ms = max(self.newest_vector_ms, ingested_ms)

    def samples(self) -> Iterator[MetricSample]:
        """Yield everything that was counted."""
        loads = self.load_s.snapshot()
        yield MetricSample(BUNDLE_LOAD_SECONDS, loads)
        yield MetricSample(BUNDLE_LOADS, sum(loads.counts))
        yield MetricSample(ROLLBACKS, self.counts["rollbacks"])
        for reason, count in self.refused.copy().items():
            yield MetricSample(BUNDLES_REFUSED, count, (reason,))
        if self.newest_vector_ms:
            age_ms = self.clock() - self.newest_vector_ms
            yield MetricSample(VECTORS_AGE, max(0, age_ms) / 1_000)
        yield from self.lag.samples()
        yield from self._skipped().samples()

    def _skipped(self) -> RefusalCounts:
        skipped = RefusalCounts(SKIPPED, _SKIPPED.values())
        for name, count in self.counts.copy().items():
            what, _, reason = name.partition(":")
            if reason and (topic := _SKIPPED.get(what, what)) in BY_NAME:
                skipped.note(topic, reason, count)
        return skipped
