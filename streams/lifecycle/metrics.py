"""Record and read the metrics of a worker."""

from collections.abc import Callable, Iterator

from contract.metrics.definitions import (
    GENERATION,
    INDEX_FAILURES,
    MILLISECONDS,
    PARTITIONS_OWNED,
    VIDEOS,
    WINDOWS_HEALED,
)
from contract.metrics.lag import LagTracker
from contract.metrics.metric import MetricSample
from contract.process.clock import Clock
from contract.wire.stages import STAGES
from streams.follower.metrics import FollowerMetrics
from streams.lifecycle.stage_timer import StageTimer
from streams.pipeline.batch import Batch
from streams.pipeline.batch_metrics import BatchMetrics
from streams.pipeline.decode import BatchDecoder
from streams.pipeline.pipeline import Pipeline
from streams.serving.candidates import CandidateSource
from streams.serving.generation import ActiveGeneration
from streams.state.partitions import Partitions

_PUBLISHED_AGAIN = "windows_healed", "windows_published_anew"


class WorkerMetrics:
    """What the parts of a worker record into; where it *is_on*, batches are recorded, too."""

    def __init__(
        self,
        clock: Clock,
        monotonic: Callable[[], float],
        thread_time: Callable[[], float],
        *,
        is_on: bool,
    ) -> None:
        self._is_on = is_on
        self.stages = StageTimer(
            thread_time, monotonic, MILLISECONDS if is_on else (), (*STAGES, "produce", "settle")
        )
        self.batches = BatchMetrics(clock)
        self.follower = FollowerMetrics(clock, monotonic)
        self.lag = LagTracker(clock, monotonic)

    def note_batch(self, batch: Batch) -> None:
        """Record *batch*, which is acknowledged."""
        if self._is_on:
            self.batches.note(batch)

    def samples(
        self,
        decoder: BatchDecoder,
        pipeline: Pipeline,
        switch: ActiveGeneration,
        retrieval: CandidateSource,
        partitions: Partitions,
    ) -> Iterator[MetricSample]:
        """Yield everything that a worker of these parts shows."""
        for part in (self.batches, self.stages, self.follower, self.lag, decoder.skipped):
            yield from part.samples()
        serving = switch.current
        yield MetricSample(GENERATION, serving.generation if serving is not None else 0)
        yield MetricSample(VIDEOS, len(serving.items) if serving is not None else 0)
        yield MetricSample(INDEX_FAILURES, retrieval.num_failures)
        yield MetricSample(WINDOWS_HEALED, sum(pipeline.counts[name] for name in _PUBLISHED_AGAIN))
        yield MetricSample(PARTITIONS_OWNED, len({at.partition for at in partitions.marks()}))
