"""Apply the transitions of the training state, each of them written down first.

The state depends on nothing else: records in the order in which they are taken, the time at which
they are taken, when a batch that is not full is learned, and when a generation begins. `repeat`
does all of it again from the journal, with the same calls as the first time.

Announcements of bundles are no part of it. They are read from their beginning at each start, and
what they change is what is published, not what is learned.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from contract.kafka.records import Received
from contract.process.clock import ManualClock
from contract.wire.topics import MODEL_BUNDLES
from models.features.examples import Example
from trainer.input.dispatch import Intake
from trainer.input.feed import Feed
from trainer.ranking.watermarks import Place
from trainer.state.journal import (
    BatchLearned,
    GenerationBegun,
    GenerationDropped,
    Journal,
    RecordsTaken,
    Run,
    Transition,
    VectorsPublished,
)
from trainer.state.training_state import TrainingState

log = structlog.get_logger()

BACKLOG_SPAN_MS = 60_000
"""A batch larger than usual spans a minute of event time at most: live signals and popularity,
which a batch is learned against, hold for about as long."""


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """How many examples are a batch: *usual*, or up to *in_backlog* while the trainer is behind.

    It is behind while *num_behind* records or more come at once. Large batches are learned in large
    steps, five times as fast.
    """

    usual: int
    in_backlog: int
    num_behind: int

    def is_full(self, examples: Sequence[Example], *, num_taken: int) -> bool:
        """Return whether *examples* are a batch, when so many records were taken with the last."""
        if len(examples) < self.usual:
            return False
        if num_taken < self.num_behind or len(examples) >= self.in_backlog:
            return True
        return abs(examples[-1].event_time_ms - examples[0].event_time_ms) >= BACKLOG_SPAN_MS


class Transitions:
    """Changes *state*, and journals how.

    *clock* is what the state and everything in it tell the time by: it stands still during a
    transition, so that it can be set to the same time when the transition is repeated.
    """

    def __init__(
        self,
        state: TrainingState,
        intake: Intake,
        journal: Journal,
        clock: ManualClock,
        *,
        batches: BatchSizes,
    ) -> None:
        self._state = state
        self._intake = intake
        self._journal = journal
        self._clock = clock
        self._batches = batches
        self.num_full_batches = 0

    def take(self, records: Sequence[Received], idle: Sequence[Place] = (), *, now_ms: int) -> bool:
        """Apply *records*, then join; return whether anything may have changed.

        A full batch is learned before the next record is applied. *idle* are the topics and
        partitions that had no unread record for a while.
        """
        runs = runs_of(records)
        joiner = self._state.joiner
        if not runs and not (joiner is not None and joiner.is_moved_by(idle)):
            self._apply(records)
            return False
        self._journal.append(RecordsTaken(now_ms, runs, list(idle)))
        self._take(records, idle, now_ms)
        return True

    def learn(self) -> None:
        """Learn from the batch that waits, full or not."""
        self._journal.append(BatchLearned())
        self._state.learn()

    def note_freeze(self, generation: int, in_service: int | None) -> None:
        """Note that *generation* begins: `BundlePublisher.prepare` is called next."""
        self._journal.append(GenerationBegun(generation, in_service))

    def note_drop(self, generation: int) -> None:
        """Note that *generation*, whose bundle is not offered, was dropped."""
        self._journal.append(GenerationDropped(generation))

    def note_published(self, generation: int, most: int) -> None:
        """Note that `take_touched` of the state was called, and what it returned is published.

        Afterwards: a process that ends before publishes the same videos again.
        """
        self._journal.append(VectorsPublished(generation, most))

    def repeat(
        self, transitions: Sequence[Transition], feed: Feed, should_stop: Callable[[], bool]
    ) -> None:
        """Do again what the journal says, with the records that *feed* still has.

        Raises:
            BrokerLostRecordsError: a log ends before what was read of it.
        """
        for transition in transitions:
            match transition:
                case RecordsTaken(now_ms, runs, idle):
                    records = [one for run in runs for one in feed.follow(run, should_stop)]
                    if should_stop():
                        return
                    self._take(records, idle, now_ms)
                case BatchLearned():
                    self._state.learn()
                case GenerationBegun(generation, in_service):
                    self._state.freeze(generation, in_service=in_service)
                case GenerationDropped(generation):
                    self._state.drop(generation)
                case VectorsPublished(generation, most):
                    self._state.take_touched(generation, most)

    def _take(self, records: Sequence[Received], idle: Sequence[Place], now_ms: int) -> None:
        self._clock.now_ms = now_ms
        self._apply(records)
        self._state.join(idle)

    def _apply(self, records: Sequence[Received]) -> None:
        # announcements are not journalled: they neither count nor end a batch
        num_taken = sum(is_journalled(record) for record in records)
        for record in records:
            self._intake.take(record)
            if not is_journalled(record):
                continue
            if self._batches.is_full(self._state.pending.examples, num_taken=num_taken):
                self._state.learn()
                self.num_full_batches += 1


def is_journalled(record: Received) -> bool:
    """Return whether the journal has *record*; announcements are read anew at each start."""
    return record.topic != MODEL_BUNDLES.name


def runs_of(records: Sequence[Received]) -> list[Run]:
    """Return *records* as runs, without announcements of bundles."""
    runs: list[Run] = []
    for record in filter(is_journalled, records):
        last = runs[-1] if runs else None
        if last and (last.topic, last.partition) == (record.topic, record.partition):
            runs[-1] = Run(*record.at, last.first, record.offset, last.count + 1)
        else:
            runs.append(Run(*record.at, record.offset, record.offset, 1))
    return runs
