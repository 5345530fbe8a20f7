"""Record and read the metrics of index_sync."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized

from contract.errors import BUNDLE_FAULTS
from contract.kafka.records import Position, Received
from contract.metrics.buckets import BucketCounts
from contract.metrics.definitions import (
    BUNDLES_REFUSED,
    DEAD_LETTERS,
    GENERATION,
    INDEX_BUILDS,
    INDEX_HELD,
    INDEX_IS_BUILDING,
    INDEX_REQUESTS_FAILED,
    INDEX_STALENESS,
    INDEX_TAKEDOWNS,
    INDEX_UPLOADS,
    INDEX_VECTORS,
    INDEX_VIDEOS,
    LOOP_AGE,
    SECONDS,
    UPLOAD_TO_INDEXED,
)
from contract.metrics.lag import LagTracker
from contract.metrics.metric import MetricSample
from contract.metrics.refusals import RefusalCounts
from contract.process.clock import Clock
from contract.wire.topics import ITEM_VECTORS, VIDEO_UPLOADS
from index_sync.records import SOURCES

STORE_UNAVAILABLE = "store_unavailable"
LOOK_EVERY_S = 0.25
_INTO_INDEX = (VIDEO_UPLOADS.name, ITEM_VECTORS.name)


class IndexMetrics:
    """What the worker records; its thread writes, a scrape reads."""

    def __init__(self, clock: Clock, monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._round_s = self._looked_s = monotonic()
        self._upload_s = BucketCounts(SECONDS)
        self.build_s = BucketCounts(SECONDS)
        self.refused = Counter(dict.fromkeys([*BUNDLE_FAULTS, STORE_UNAVAILABLE], 0))
        self.dead = RefusalCounts(DEAD_LETTERS, SOURCES)
        self.lag = LagTracker(clock, monotonic)
        self.generation = 0

    def begin_round(self) -> None:
        """Note that the loop begins a round."""
        self._round_s = self._monotonic()

    def is_look_due(self) -> bool:
        """Return whether the lag should be noted in this round."""
        if self._round_s - self._looked_s < LOOK_EVERY_S:
            return False
        self._looked_s = self._round_s
        return True

    def note_lag(self, behind: Mapping[Position, int], newest_ms: Mapping[Position, int]) -> None:
        """Note how many records of each partition were not taken."""
        for at, records in behind.items():
            self.lag.note(at, records=records, done_ms=newest_ms.get(at, 0))

    def note_uploads(self, records: Sequence[Received]) -> None:
        """Note that *records* of uploads are in the index, and acknowledged."""
        now_ms = self._clock()
        self._upload_s.observe_all(
            max(0, now_ms - record.ingested_at_ms) / 1_000
            for record in records
            if record.ingested_at_ms > 0
        )

    def samples(
        self,
        counts: Mapping[str, int],
        *,
        catalogue: Sized,
        held: Sized,
        is_building: Callable[[], bool],
        num_failed: Callable[[], int],
    ) -> Iterator[MetricSample]:
        """Yield everything, with what the worker counts."""
        yield from self.lag.samples()
        yield from self.dead.samples()
        yield MetricSample(INDEX_STALENESS, self.lag.longest_s(_INTO_INDEX))
        yield MetricSample(UPLOAD_TO_INDEXED, self._upload_s.snapshot())
        yield MetricSample(INDEX_BUILDS, self.build_s.snapshot())
        yield MetricSample(INDEX_UPLOADS, counts.get("uploads", 0))
        yield MetricSample(INDEX_TAKEDOWNS, counts.get("takedowns", 0))
        yield MetricSample(INDEX_VECTORS, counts.get("vectors", 0), ("written",))
        yield MetricSample(INDEX_VECTORS, counts.get("vectors_ignored", 0), ("ignored",))
        yield MetricSample(INDEX_VIDEOS, len(catalogue))
        yield MetricSample(INDEX_HELD, len(held))
        yield MetricSample(INDEX_IS_BUILDING, is_building())
        yield MetricSample(INDEX_REQUESTS_FAILED, num_failed())
        yield MetricSample(GENERATION, self.generation)
        yield MetricSample(LOOP_AGE, self._monotonic() - self._round_s)
        for reason, count in self.refused.copy().items():
            yield MetricSample(BUNDLES_REFUSED, count, (reason,))
