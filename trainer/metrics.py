"""Record and read the metrics of the trainer.

What changes while it learns is read by the loop itself and shown as it was then: a scrape comes
from another thread, which must not look into a model that is being trained. Counts are read every
second. The progressive metrics take up to a fifth of a second of CPU, and are those of the line
`progress_made` in the log, every ten seconds.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from contract.errors import DecodeError
from contract.kafka.records import Position, Received
from contract.metrics.buckets import BucketCounts
from contract.metrics.definitions import (
    BUNDLES_OFFERED,
    BUNDLES_WITHHELD,
    CHECKPOINT_AGE,
    CHECKPOINTS_FAILED,
    DEAD_LETTERS,
    EXAMPLES,
    EXAMPLES_SCORED,
    GENERATION,
    GUARD_ALARMS,
    GUARD_SHARE,
    JOINED,
    JOINER_ENTRIES,
    LOOP_AGE,
    LOSS,
    PHASE_SECONDS,
    RANKER_CALIBRATION,
    RANKER_EXAMPLES,
    RANKER_GAUC,
    RANKER_LOG_LOSS,
    RECALL,
    SECONDS,
    SKIPPED,
    TRAINER_RECORDS,
    TRAINER_VIDEOS,
    USERS,
    VECTORS_PUBLISHED,
    WAITING_WATCHES,
)
from contract.metrics.lag import LagTracker
from contract.metrics.metric import TRAINER, MetricSample
from contract.metrics.refusals import RefusalCounts
from contract.process.clock import Clock, system_clock
from contract.wire.topics import Topic
from trainer.evaluate.progressive import CUTOFFS, SYSTEMS
from trainer.input.dispatch import SOURCES
from trainer.reasons import JOINED_RESULTS, WITHHELD
from trainer.state.training_state import TrainingState
from trainer.timer import Interval

SHOW_EVERY_S = 1.0
LOOK_EVERY_S = 0.5
PHASES = ("take", "learn", "publish", "offer", "checkpoint")
COUNTED = (
    *("offered", "bundles_withheld", "vectors", "fast_path_skipped"),
    *("failed_checkpoints", "alarms", "notices"),
)
"""What the process does, and not what it learns: going back to a checkpoint forgets none of it."""
_GAUCS = {
    "ranker": "ranker_gauc",
    "served": "ranker_served_gauc",
    "similarity": "ranker_similarity_gauc",
}


class TrainerMetrics:
    """What the loop records; its thread writes, a scrape reads."""

    def __init__(
        self, clock: Clock = system_clock, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic = monotonic
        self._round_s = monotonic()
        self._saved_s: float | None = None
        self._phases = {name: BucketCounts(SECONDS) for name in PHASES}
        self._records = Counter(dict.fromkeys(SOURCES, 0))
        self._newest_ms: dict[Position, int] = {}
        self._counted: tuple[MetricSample, ...] = ()
        self._measured: tuple[MetricSample, ...] = ()
        self._is_show_due = Interval(SHOW_EVERY_S, monotonic)
        self._is_look_due = Interval(LOOK_EVERY_S, monotonic)
        ours = {name for name, topic in SOURCES.items() if topic.dead_lettered_by == TRAINER}
        self.dead = RefusalCounts(DEAD_LETTERS, sorted(ours))
        self.skipped = RefusalCounts(SKIPPED, [name for name in SOURCES if name not in ours])
        self.withheld = Counter(dict.fromkeys(WITHHELD, 0))
        self.counts = Counter(dict.fromkeys(COUNTED, 0))
        self.lag = LagTracker(clock, monotonic)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure one of `PHASES`."""
        began_s = self._monotonic()
        try:
            yield
        finally:
            self._phases[name].observe(self._monotonic() - began_s)

    def begin_round(self) -> None:
        """Note that the loop begins a round."""
        self._round_s = self._monotonic()

    def note_saved(self) -> None:
        """Note that a checkpoint is on disk."""
        self._saved_s = self._monotonic()

    def note_records(
        self, records: Sequence[Received], behind: Callable[[], Mapping[Position, int]]
    ) -> None:
        """Count *records*; now and then note how many records are *behind* them."""
        for record in records:
            self._records[record.topic] += 1
            self._newest_ms[record.at] = record.ingested_at_ms
        if self._is_look_due.is_due():
            for at, count in behind().items():
                self.lag.note(at, records=count, done_ms=self._newest_ms.get(at, 0))

    def note_refusal(self, topic: Topic, error: DecodeError) -> None:
        """Count a record of *topic* that breaks the contract."""
        refused = self.dead if topic.dead_lettered_by == TRAINER else self.skipped
        refused.note(topic.name, error.reason)

    def show_if_due(self, state: TrainingState, *, in_service: int | None) -> None:
        """Show from now on the counts of *state*, if the last time was a while ago."""
        if self._is_show_due.is_due():
            self._counted = (MetricSample(GENERATION, in_service or 0), *_counted(state))

    def show_progress(self, metrics: Mapping[str, float]) -> None:
        """Show from now on the progressive *metrics* of the training state."""
        self._measured = tuple(_measured(metrics))

    def samples(self) -> Iterator[MetricSample]:
        """Yield everything that the trainer shows."""
        for part in (self.lag, self.dead, self.skipped):
            yield from part.samples()
        yield from self._counted
        yield from self._measured
        for name, buckets in self._phases.items():
            yield MetricSample(PHASE_SECONDS, buckets.snapshot(), (name,))
        for topic, count in self._records.copy().items():
            yield MetricSample(TRAINER_RECORDS, count, (topic,))
        for reason, count in self.withheld.copy().items():
            yield MetricSample(BUNDLES_WITHHELD, count, (reason,))
        yield MetricSample(BUNDLES_OFFERED, self.counts["offered"])
        yield MetricSample(VECTORS_PUBLISHED, self.counts["vectors"])
        yield MetricSample(CHECKPOINTS_FAILED, self.counts["failed_checkpoints"])
        yield MetricSample(GUARD_ALARMS, self.counts["alarms"])
        yield MetricSample(LOOP_AGE, self._monotonic() - self._round_s)
        if self._saved_s is not None:
            yield MetricSample(CHECKPOINT_AGE, self._monotonic() - self._saved_s)


def _counted(state: TrainingState) -> Iterator[MetricSample]:
    counts = state.counts
    yield MetricSample(EXAMPLES, counts["learned_examples"])
    yield MetricSample(EXAMPLES_SCORED, state.progressive.num_examples)
    yield MetricSample(LOSS, state.loss)
    yield MetricSample(USERS, len(state.windows))
    yield MetricSample(TRAINER_VIDEOS, int(state.learner.vocabulary.is_live_N.sum()))
    yield MetricSample(WAITING_WATCHES, len(state.waiting))
    if state.joiner is not None:
        yield MetricSample(JOINER_ENTRIES, len(state.joiner))
        for result, (name, _) in JOINED_RESULTS.items():
            yield MetricSample(JOINED, counts[name], (result,))
    if state.guard is not None:
        for check, share in state.guard.shares_of_bounds().items():
            yield MetricSample(GUARD_SHARE, share, (check,))


def _measured(metrics: Mapping[str, float]) -> Iterator[MetricSample]:
    for system in SYSTEMS:
        for cutoff in CUTOFFS:
            recall = metrics[f"recent_{system}_recall_at_{cutoff}"]
            yield MetricSample(RECALL, recall, (system, str(cutoff)))
    if "ranker_examples" in metrics:
        yield MetricSample(RANKER_EXAMPLES, metrics["ranker_examples"])
    if "ranker_gauc" in metrics:
        for system, name in _GAUCS.items():
            yield MetricSample(RANKER_GAUC, metrics[name], (system,))
        yield MetricSample(RANKER_LOG_LOSS, metrics["ranker_log_loss"])
        yield MetricSample(RANKER_CALIBRATION, metrics["ranker_predicted_to_watched"])
