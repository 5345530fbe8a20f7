"""Run the trainer's own loop over a replayed log, in simulated time and without a broker.

Everything is the trainer's: loop, intake, guard, bundles and checkpoints on disk. The feed gives
the records of the log at a steady rate, so a second is so many records; the log's own time is the
broker's. A bundle that is offered is in service `SWAP_S` later.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.stack.inline_executor import InlineExecutor
from contract.kafka.outbox import Outgoing
from contract.kafka.records import Position, Received
from contract.process.clock import ManualClock
from contract.wire.decoding import decode
from contract.wire.events import (
    BundleAnnouncement,
    BundleState,
    Impressions,
    VideoUpload,
    Watch,
    encode,
)
from contract.wire.topics import (
    IMPRESSIONS,
    MODEL_BUNDLES,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
    Layout,
    Topic,
)
from models.history.history import HOUR_MS, WindowPolicy
from models.ranking.config import RankerConfig
from models.training.config import TowerConfig
from trainer.evaluate.popularity import Popularity
from trainer.guard.guard import Guard
from trainer.guard.rollback import Rollback
from trainer.guard.service_watch import ServiceWatch
from trainer.input.dispatch import Intake
from trainer.input.windows import Windows
from trainer.learn.learner import Learner
from trainer.loop import Trainer
from trainer.metrics import TrainerMetrics
from trainer.parts import Parts
from trainer.publish.generations import Generations
from trainer.publish.publishing import BundlePublisher
from trainer.ranking.join_store import RocksJoinStore
from trainer.ranking.joiner import Joiner
from trainer.ranking.learner import RankingLearner
from trainer.ranking.own_features import own_features
from trainer.settings import TrainerSettings
from trainer.state.checkpoint import Checkpoints
from trainer.state.journal import Journal
from trainer.state.training_state import Pending, TrainingState

TICK_S = 1.0
SWAP_S = 2.0
PUBLISH_EVERY_S = 60.0
FAST_PATH_S = TrainerSettings().fast_path_s
_NEVER_S = 86_400.0
_COUNTED_AT_ONCE = 1_000

Timed = tuple[int, Watch]
"""When the broker gets a watch, and the watch."""
TimedRecord = tuple[int, Watch | Impressions]


class LogFeed:
    """Gives the records of each tick once; the double of `trainer.input.feed.Feed`."""

    def __init__(self) -> None:
        self.next_offsets: dict[str, dict[int, int]] = {}
        self.topic_ids: dict[str, int] = {}
        self.is_verified = True
        self._coming: list[Received] = []

    def put(self, topic: Topic, key: str, value: bytes, ingested_at_ms: int) -> None:
        """Add a record to those of the next tick."""
        offsets = self.next_offsets.setdefault(topic.name, {0: 0})
        self._coming.append(
            Received(topic.name, 0, offsets[0], key.encode(), value, ingested_at_ms)
        )
        offsets[0] += 1

    def open(self, *_given: object) -> None:
        """Do nothing."""

    def poll(self, *, most: int, timeout_s: float) -> list[Received]:  # noqa: ARG002
        """Return up to *most* records."""
        taken, self._coming = self._coming[:most], self._coming[most:]
        return taken

    @property
    def is_empty(self) -> bool:
        """Whether everything was polled."""
        return not self._coming

    def has_read(self, _topics: Sequence[Topic]) -> bool:
        """Return whether what comes is live: everything was polled."""
        return self.is_empty

    def at_end(self) -> Collection[tuple[str, int]]:
        """Return nothing: every topic that is joined goes on."""
        return ()

    def num_behind(self) -> Mapping[Position, int]:
        """Return nothing: nobody asks for the lag here."""
        return {}

    def note_ids(self) -> None:
        """Do nothing."""

    def commit(self, _offsets: Mapping[str, Mapping[int, int]]) -> None:
        """Do nothing."""


class KeptOutbox:
    """Acknowledges everything, and keeps the announcements."""

    def __init__(self) -> None:
        self.announced: list[BundleAnnouncement] = []

    def send(self, records: Sequence[Outgoing]) -> None:
        """Take *records*."""
        for record in records:
            if record.topic == MODEL_BUNDLES.name and record.value is not None:
                self.announced.append(
                    decode(MODEL_BUNDLES, BundleAnnouncement, record.key, record.value, ())
                )

    deliver = send

    def flush(self) -> None:
        """Do nothing."""


@dataclasses.dataclass(slots=True)
class TrialFacts:
    """What happened to a trainer, each with the second at which it did."""

    refused: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    alarms: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    offered: list[tuple[float, int]] = dataclasses.field(default_factory=list)
    withdrawn: list[tuple[float, int]] = dataclasses.field(default_factory=list)
    back_to: list[tuple[float, int | None]] = dataclasses.field(default_factory=list)
    num_scored: int = 0
    """The examples that the learner and the generation in service were compared on."""
    nearest: dict[str, float] = dataclasses.field(default_factory=dict)
    """The highest that each measure with a bound was, as a share of that bound."""


class TrainerRig:
    """A trainer that reads a log; paths are relative, so a copy of its directory is another one."""

    def __init__(
        self,
        uploads: Iterable[VideoUpload],
        *,
        now_ms: int,
        seed: int,
        rate: float,
        is_blind: bool = False,
        directory: str = ".",
        config: TowerConfig | None = None,
        has_ranker: bool = False,
    ) -> None:
        self.config = config or TowerConfig()
        self.rate = rate
        self.publish_every_s = PUBLISH_EVERY_S
        self.now_s = 0.0
        self.next_watch = 0
        """The number of the first watch of the log that was not read."""
        self.day_old_features_NF = np.zeros((0, 0))
        """The ranking features of every video, of a day before the warm-up ended."""
        self.clock = ManualClock(now_ms)
        self.facts = TrialFacts()
        self.generations = Generations()
        self._feed = LogFeed()
        self._outbox = KeptOutbox()
        self._due: list[tuple[float, BundleAnnouncement]] = []
        self._num_heard = 0
        self._num_withheld = 0
        self._num_compared = 0
        completion = self.config.completion
        self.learner = Learner(self.config, seed=seed)
        self.state = TrainingState(
            self.learner,
            Windows(WindowPolicy(), max_users=1_000_000),
            Popularity(
                self.learner.vocabulary, half_life_ms=24 * HOUR_MS, live_half_life_ms=3 * HOUR_MS
            ),
            completion,
            clock=self.clock,
        )
        self.guard = Guard(
            self.learner.vocabulary, completion, cpu_s=time.thread_time, is_blind=is_blind
        )
        self.state.guard = self.guard
        if has_ranker:
            self._add_ranker(Path(directory), seed)
        publisher = BundlePublisher(self._outbox, Layout(), f"{directory}/bundles", self.clock, 4)
        rollback = Rollback(Path(directory) / "checkpoints")
        metrics = TrainerMetrics()
        self.counts = metrics.counts
        self.watch = ServiceWatch(
            self.state, self.guard, self.generations, rollback, publisher,
            f"{directory}/bundles", self.clock, self.counts,
        )  # fmt: skip
        self.intake = Intake(
            self.state, self.generations, self._outbox, Layout(), self.clock, rollback.quarantine
        )
        settings = TrainerSettings(
            checkpoint_every_s=_NEVER_S, publish_every_s=_NEVER_S, fast_path_s=3_600.0,
            batch_wait_ms=0,
        )  # fmt: skip
        self.trainer = Trainer(
            Parts(
                state=self.state,
                generations=self.generations,
                feed=self._feed,  # type: ignore[arg-type]
                intake=self.intake,
                outbox=self._outbox,  # type: ignore[arg-type]
                publisher=publisher,
                checkpoints=Checkpoints(Path(directory) / "checkpoints"),
                journal=Journal(Path(directory) / "checkpoints"),
                writer=InlineExecutor(),
                clock=self.clock,
                state_clock=self.clock,
                watch=self.watch,
                metrics=metrics,
            ),
            settings,
        )
        for upload in uploads:
            self._feed.put(VIDEO_UPLOADS, upload.video_id, encode(upload), now_ms)
        while not self._feed.is_empty:
            self.trainer.take()

    def _add_ranker(self, directory: Path, seed: int) -> None:
        """Learn to rank, as the process does, from impressions that come with the watches."""
        state, learner, completion = self.state, self.learner, self.config.completion
        store = RocksJoinStore(directory / "joiner")
        state.joiner = Joiner(
            store, TrainerSettings().joining, clock=self.clock, counts=state.counts
        )
        state.joiner.load(None)
        state.ranker = RankingLearner(
            RankerConfig(),
            learner.vocabulary,
            state.popularity,
            completion,
            temperature=learner.ranker_params.temperature,
            seed=seed,
        )
        state.own_features = own_features(
            learner, state.windows, state.popularity, completion, state.ranker.row_of_point
        )

    def tick(self, records: Sequence[TimedRecord]) -> None:
        """Run `TICK_S`, in which *records* come."""
        self._take(records)
        self.now_s += TICK_S
        self._announce_due()
        if _is_due(self.now_s, FAST_PATH_S):
            self.trainer.offering.publish_vectors()
        if _is_due(self.now_s, self.publish_every_s):
            self.offer()

    def catch_up(self, records: Sequence[TimedRecord]) -> None:
        """Read *records*, which waited in the topics, as fast as possible; nothing is offered."""
        self._take(records)

    def _take(self, records: Sequence[TimedRecord]) -> None:
        for at_ms, record in records:
            self.clock.now_ms = max(self.clock.now_ms, at_ms)
            topic = WATCH_EVENTS if isinstance(record, Watch) else IMPRESSIONS
            self._feed.put(topic, record.user_id, encode(record), self.clock.now_ms)
        while True:
            self.trainer.step()
            self._note()
            if self._feed.is_empty:
                break

    def offer(self) -> None:
        """Offer what was learned, if the guard lets it."""
        self.trainer.offering.offer_next()
        self._note()

    def run(
        self,
        records: Iterator[TimedRecord],
        *,
        for_s: float,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Run *for_s* seconds, or until *records* end or *should_stop*."""
        end_s = self.now_s + for_s
        per_tick = int(self.rate * TICK_S)
        while self.now_s < end_s and not should_stop():
            coming = [one for one, _ in zip(records, range(per_tick), strict=False)]
            if not coming:
                return
            self.tick(coming)

    def remember(self, watches: Iterable[Timed]) -> None:
        """Count *watches*, and move the windows on, without learning from them.

        The monitors of labels and traffic see them; what they alarm of is noted.
        """
        for at_ms, watch in watches:
            self.clock.now_ms = self.guard.ingested_at_ms = at_ms
            self.state.watch(watch)
            self._note_alarm()
            if len(self.state.pending.viewings) >= _COUNTED_AT_ONCE:
                self.state.popularity.count(self.state.pending.viewings)
                self.learner.count(self.state.pending.viewings)
                self.state.pending = Pending()

    def _note_alarm(self) -> None:
        alarm = self.guard.alarm
        if alarm is not None:
            self.facts.alarms.append((self.now_s, alarm.reason))
            self.guard.calm()

    def put_in_service(self) -> None:
        """Offer what was learned, and put it in service at once."""
        self.offer()
        self._announce_due(at_once=True)

    def adopt(self, announcements: Iterable[BundleAnnouncement]) -> None:
        """Hear of bundles that another trainer has put in service."""
        for announcement in announcements:
            self.generations.note(announcement)

    @property
    def announced(self) -> list[BundleAnnouncement]:
        """Every announcement of this trainer, and those of the serving that answered."""
        return list(self._outbox.announced)

    def _note(self) -> None:
        """Note what the last step has done."""
        self._note_nearest()
        for announcement in self._outbox.announced[self._num_heard :]:
            if announcement.state is BundleState.OFFERED:
                self.facts.offered.append((self.now_s, announcement.generation))
                for after_s, state in (
                    (1.0, BundleState.INDEXED),
                    (SWAP_S, BundleState.IN_SERVICE),
                ):
                    said = msgspec.structs.replace(announcement, state=state)
                    self._due.append((self.now_s + after_s, said))
            elif announcement.state is BundleState.WITHDRAWN:
                self.facts.withdrawn.append((self.now_s, announcement.generation))
                self.facts.alarms.append((self.now_s, announcement.reason))
                self._due = [d for d in self._due if d[1].generation != announcement.generation]
        self._num_heard = len(self._outbox.announced)
        num_withheld = self.counts["bundles_withheld"]
        if num_withheld > self._num_withheld:
            self._num_withheld = num_withheld
            self.facts.refused.append((self.now_s, self.trainer.offering.withheld))
        num_alarms = self.counts["alarms"]
        if num_alarms > len(self.facts.back_to):
            self.facts.back_to.append((self.now_s, self.generations.in_service))
            if not self.facts.alarms or self.facts.alarms[-1][0] < self.now_s:
                self.facts.alarms.append((self.now_s, "nothing to withdraw"))
            self.watch.has_gone_back = False

    def _note_nearest(self) -> None:
        """Note how near to their bounds the measures are, and how many examples were compared."""
        guard, facts = self.guard, self.facts
        num_scored = guard.versus_served.num_examples
        facts.num_scored += num_scored - self._num_compared * (num_scored >= self._num_compared)
        self._num_compared = num_scored
        for name, share in guard.shares_of_bounds().items():
            facts.nearest[name] = max(share, facts.nearest.get(name, 0.0))

    def _announce_due(self, *, at_once: bool = False) -> None:
        due = [one for one in self._due if at_once or one[0] <= self.now_s]
        self._due = [one for one in self._due if one not in due]
        for _, announcement in due:
            self.generations.note(announcement)
            self._outbox.announced.append(announcement)
        self._num_heard = len(self._outbox.announced)

    @property
    def refused_records(self) -> Counter[str]:
        """The records that were not taken, by topic and reason."""
        return self.intake.refused


def _is_due(now_s: float, every_s: float) -> bool:
    return now_s % every_s < TICK_S / 2
