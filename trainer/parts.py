"""The parts of a trainer, chosen by the composition root."""

from concurrent.futures import Executor
from dataclasses import dataclass, field

from contract.kafka.outbox import Outbox
from contract.process.clock import Clock, ManualClock
from trainer.guard.rollback import Rollback
from trainer.guard.service_watch import ServiceWatch
from trainer.input.dispatch import Intake
from trainer.input.feed import Feed
from trainer.metrics import TrainerMetrics
from trainer.publish.generations import Generations
from trainer.publish.publishing import BundlePublisher
from trainer.state.checkpoint import Checkpoints
from trainer.state.journal import Journal
from trainer.state.training_state import TrainingState


@dataclass(frozen=True, slots=True)
class Parts:
    """What a trainer works with.

    *state_clock* is the clock of the state and of the intake, which the trainer sets; *writer* runs
    what writes checkpoints.
    """

    state: TrainingState
    generations: Generations
    feed: Feed
    intake: Intake
    outbox: Outbox
    publisher: BundlePublisher
    checkpoints: Checkpoints
    journal: Journal
    writer: Executor
    clock: Clock
    state_clock: ManualClock
    watch: ServiceWatch | None = None
    rollback: Rollback | None = None
    metrics: TrainerMetrics = field(default_factory=TrainerMetrics)
