"""Train continually: read, score, learn, publish, save. Read this file first.

Everything happens in one thread, in this order, for as long as the process lives:

1. take what came (`trainer.input.dispatch`): windows move on, completed watches become examples;
2. when a batch is full or has waited long enough: score it, learn from it, count it
   (`trainer.state.training_state`);
3. every few seconds: vectors of what was touched, for the generation in service (fast path);
4. every minute or so: a new bundle, which starts a new generation (slow path);
5. now and then: a checkpoint of everything learned with the offsets it was learned from.

A restart goes on from the newest whole checkpoint, and does again what the journal says happened
after it (`trainer.transitions`): the same records in the same order, batches that end where they
ended. What it has learned then is, bit for bit, what the process that ended had learned.

Checkpoints are copied in this thread and written in another (`trainer.state.saving`).

A guard (`trainer.guard`) stands before 4, and watches what serves. When that has turned bad, the
generations that know of it are withdrawn, and the process starts over from the checkpoint of the
one that serves again, without the records that did it.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from contract.errors import ContractError
from contract.kafka.records import Received
from contract.process.memory import give_back_memory
from contract.wire.topics import MODEL_BUNDLES, VIDEO_UPLOADS, WINDOWS, Topic
from trainer.input import backfill
from trainer.input.dispatch import SOURCES
from trainer.input.feed import BrokerLostRecordsError
from trainer.parts import Parts
from trainer.publish.offering import Offering
from trainer.ranking.joiner import WATERMARKED
from trainer.ranking.watermarks import IdlePlaces
from trainer.settings import TrainerSettings
from trainer.state import checkpoint_codec
from trainer.state.checkpoint import Checkpoint, Offsets
from trainer.state.checkpoint_codec import NotFiniteError
from trainer.state.journal import Transition
from trainer.state.saving import Saving
from trainer.timer import Interval, since
from trainer.transitions import BatchSizes, Transitions

log = structlog.get_logger()

Stop = Callable[[], bool]
"""Returns True once the process was asked to end."""

CATALOGUE = (VIDEO_UPLOADS, MODEL_BUNDLES)
ALL = tuple(SOURCES.values())
POLL_S = 0.1
MAX_POLLED = 500
NUM_BEHIND = 128
"""A trainer that finds so many records at once is behind, and learns in larger batches. With small
ones 500 watches a second need twice the processor time, and wait for it where it is scarce."""
REPORT_EVERY_S = 10.0
REPORTED = (
    "progressive_examples",
    "loss",
    "progressive_recall_at_20",
    "retrieval_recall_at_20",
    "popularity_recall_at_20",
)


class Trainer:
    """Learns from the topics until it is stopped."""

    def __init__(self, parts: Parts, settings: TrainerSettings) -> None:
        self._parts = parts
        self._settings = settings
        self._batch_age = Interval(settings.batch_wait_ms / 1_000)
        self._fast_path = Interval(settings.fast_path_s)
        self._slow_path = Interval(settings.publish_every_s)
        self._next_checkpoint = Interval(settings.checkpoint_every_s)
        self._report = Interval(REPORT_EVERY_S)
        self._transitions = Transitions(
            parts.state,
            parts.intake,
            parts.journal,
            parts.state_clock,
            batches=BatchSizes(settings.batch_size, settings.backlog_batch_size, NUM_BEHIND),
        )
        self._saving = Saving(parts.checkpoints, parts.journal, parts.writer)
        self._idle = IdlePlaces(WATERMARKED, idle_ms=settings.joining.idle_ms, clock=parts.clock)
        self._lag_ms = 0
        self._has_changed = False
        self._is_catching_up = False
        self._num_erasures = self._num_erasures_begun = 0
        self._num_naming_erased = 0
        self.offering = Offering(
            parts,
            settings,
            self._transitions,
            offsets=self._offsets,
            save=self._save_offered,
        )

    def run(self, should_stop: Stop, on_ready: Callable[[], None]) -> None:
        """Start, call *on_ready*, learn until *should_stop*, then save a checkpoint."""
        self.start(should_stop)
        on_ready()
        while not should_stop() and not self.has_gone_back:
            self.step()
        if self.has_gone_back:
            self._parts.journal.clear()  # it goes on from what was gone back from
            return
        self._finish_saving(wait=True)
        if not self._is_catching_up:
            self._checkpoint_if_possible()
            self._finish_saving(wait=True)

    def close(self) -> None:
        """Wait for a checkpoint that is being written; close what is on disk beside them.

        When an error ends `run`, nobody has waited for it, and the process ends under the writer.
        """
        self._parts.writer.shutdown()
        if self._parts.state.joiner is not None:
            self._parts.state.joiner.close()

    @property
    def has_gone_back(self) -> bool:
        """Whether an older checkpoint is the newest now: everything is to be built anew from it."""
        return self._parts.watch is not None and self._parts.watch.has_gone_back

    def start(self, should_stop: Stop) -> None:
        """Resume from the newest checkpoint or begin; offer a bundle where there is none."""
        checkpoint = self._parts.checkpoints.newest(checkpoint_codec.check_usable)
        if checkpoint is None:
            self._begin(should_stop)
        else:
            self._resume(checkpoint, should_stop)
        self._finish_saving(wait=True)  # an offer saves one of its own
        if not self._parts.generations.has_any and not should_stop():
            self.offering.offer()
        for interval in (self._fast_path, self._slow_path, self._next_checkpoint):
            interval.restart()

    def step(self) -> None:
        """Run one round of the loop."""
        self.take()
        self.learn_due()
        self._look_at_service()
        if self.has_gone_back:
            return
        if self._fast_path.is_due():
            self._has_changed |= self.offering.publish_vectors()
        self._finish_saving()
        if not self._saving.is_running and self._slow_path.is_due():
            self.offering.offer_next()
        if not self._saving.is_running and self._next_checkpoint.is_due():
            self._checkpoint_if_possible()
        if self._report.is_due():
            self._log_progress()

    def take(self) -> int:
        """Apply new records, and return how many; a full batch is learned before the next one."""
        feed, transitions = self._parts.feed, self._transitions
        records = self._poll()
        idle = self._idle.note(feed.at_end(), {record.at for record in records})
        was_empty, num_batches = not self._is_waiting, transitions.num_full_batches
        with self._parts.metrics.phase("take"):
            is_changed = transitions.take(records, idle, now_ms=self._parts.clock())
        self._has_changed |= is_changed
        if was_empty or transitions.num_full_batches > num_batches:
            self._batch_age.restart()
        return len(records)

    def _poll(self) -> list[Received]:
        """Return new records, which begin a round."""
        metrics, feed = self._parts.metrics, self._parts.feed
        metrics.begin_round()
        records = feed.poll(most=MAX_POLLED, timeout_s=POLL_S)
        self._note_lag(records)
        metrics.note_records(records, feed.num_behind)
        metrics.show_if_due(self._parts.state, in_service=self._parts.generations.in_service)
        return records

    def _note_lag(self, records: Sequence[Received]) -> None:
        """Note how old the oldest of *records* is."""
        ingested_ms = min((record.ingested_at_ms for record in records), default=0)
        self._lag_ms = max(0, self._parts.clock() - ingested_ms) if ingested_ms > 0 else 0

    def learn_due(self) -> None:
        """Learn from the batch that waits, if it has waited long enough."""
        if self._is_waiting and self._batch_age.is_due():
            self._has_changed = True
            with self._parts.metrics.phase("learn"):
                self._transitions.learn()

    @property
    def _is_waiting(self) -> bool:
        """Whether something waits to be learned."""
        return bool(self._parts.state.pending or self._parts.state.pending_ranking)

    def _look_at_service(self) -> None:
        """Let the guard know what serves, and go back if that has turned bad."""
        if self._parts.watch is None or self._saving.is_running:
            return  # a checkpoint that is being written would be newer than the one gone back to
        if not self._parts.watch.has_caught_up and self._parts.feed.has_read(ALL):
            self._parts.watch.caught_up()
        self._parts.watch.look(self._offsets())

    def _save_offered(self) -> None:
        self._has_changed = True
        self.checkpoint()

    def checkpoint(self) -> None:
        """Begin to save everything learned, with the offsets it was learned from.

        Dead letters come before: an offset is passed only once they are acknowledged. After an
        erasure an idle trainer goes on saving until the older checkpoints, which know the user,
        are replaced.
        """
        self._next_checkpoint.restart()
        if self._has_changed or self._num_naming_erased:
            with self._parts.metrics.phase("checkpoint"):
                self._save()

    def _save(self, number: int | None = None) -> None:
        """Begin to save a checkpoint, under *number* or the next one."""
        started_s = time.monotonic()
        self._parts.outbox.flush()
        self._parts.feed.note_ids()
        offsets, ids, state = self._offsets(), self._parts.feed.topic_ids, self._parts.state
        num_erasures, watch = state.counts["erasures"], self._parts.watch
        if num_erasures > self._num_erasures:
            state.windows.forget_base()
            if watch is not None:
                watch.note_erasure()
        self._saving.begin(
            state,
            offsets,
            {name: topic_id for name, topic_id in ids.items() if name in offsets},
            created_at_ms=self._parts.clock(),
            number=number,
        )
        self._has_changed = False
        self._num_erasures_begun = num_erasures
        log.info("checkpoint_begun", paused_s=since(started_s))
        self._finish_saving()

    def _finish_saving(self, *, wait: bool = False) -> None:
        """Do what follows the checkpoint that is on disk by now, if there is one."""
        started_s = time.monotonic()
        try:
            saved = self._saving.poll(wait=wait)
        except (OSError, NotFiniteError) as error:
            self._has_changed = True
            self._parts.metrics.counts["failed_checkpoints"] += 1
            log.error("checkpoint_failed", reason=str(error))  # noqa: TRY400 - no traceback of ours
            self.offering.note_unsaved(str(error))
            return
        if saved is None:
            return
        self._parts.metrics.note_saved()
        self._note_erasures(self._num_erasures_begun)
        if self._parts.watch is not None and not self._num_naming_erased:
            self._parts.watch.drop_erased()
        self._parts.feed.commit(saved.offsets)
        log.info("checkpoint_saved", name=saved.path.name, waited_s=since(started_s))
        self.offering.note_saved(saved.path)
        give_back_memory()  # its copy was freed, in holes: without this 110 MiB after half an hour

    def _note_erasures(self, num_erasures: int) -> None:
        """Count how many older checkpoints may have a user whom the newest one has not.

        It is on disk, and was begun after so many erasures. Those that are kept for generations are
        deleted with the last of them.
        """
        if num_erasures > self._num_erasures:
            self._num_naming_erased = self._parts.checkpoints.keep - 1
        else:
            self._num_naming_erased = max(0, self._num_naming_erased - 1)
        self._num_erasures = num_erasures

    def _checkpoint_if_possible(self) -> None:
        """Save a checkpoint; a full disk is logged and does not end the process."""
        try:
            self.checkpoint()
        except OSError as error:
            self._parts.metrics.counts["failed_checkpoints"] += 1
            log.error("checkpoint_failed", reason=str(error))  # noqa: TRY400 - no traceback of ours

    def _begin(self, should_stop: Stop) -> None:
        """Begin with nothing but the journal, if there is one from before the first checkpoint.

        What is learned in passes, from the windows that streams keeps or from the topics, has no
        place in the journal: the checkpoint comes after it, and a process that ends before begins
        anew.
        """
        parts, num_passes = self._parts, self._settings.backfill_passes
        if parts.state.joiner is not None:
            parts.state.joiner.load(None)
        if num_passes:
            parts.journal.clear()
        elif transitions := parts.journal.resume(0):
            self._read_announcements(should_stop)
            parts.feed.open(ALL, {})
            self._repeat(transitions, should_stop)
            return
        records = self._streams_windows(should_stop)
        self._is_catching_up = bool(records or num_passes)
        if records:
            parts.journal.clear()
        self._read(CATALOGUE, should_stop)
        if records and not should_stop():
            backfill.take_over(
                parts.state,
                records,
                self._settings.completion,
                num_learned=self._settings.backfill_users,
                num_passes=max(1, num_passes),
                goes_on=lambda: not should_stop(),
            )
        parts.feed.open(ALL, {})
        if num_passes and not records:
            self._learn_backlog(should_stop)
        if self._is_catching_up and not should_stop():
            self._is_catching_up = False
            self._has_changed = True
            self._checkpoint_if_possible()

    def _streams_windows(self, should_stop: Stop) -> dict[str, bytes]:
        """Return the windows that streams keeps, by user; none if they are not asked for."""
        if not self._settings.backfill_users:
            return {}
        return backfill.read_windows(
            self._parts.feed, lambda: not should_stop(), most=self._settings.max_users
        )

    def learn_windows(
        self,
        records: Mapping[str, bytes],
        goes_on: Callable[[], bool],
        *,
        num_learned: int,
        num_passes: int,
        on_pass: Callable[[], None] = lambda: None,
    ) -> bool:
        """Learn from history windows given as *records*; return whether the checkpoint is saved.

        `run` goes on from it, in this process or in another: with the uploads from where they were
        read to, and all else from its beginning. Nothing is saved if it no longer *goes_on*, which
        is asked while the catalogue is read and after each pass.

        Raises:
            ContractError: there is a checkpoint, or no video.
        """
        parts = self._parts
        if parts.checkpoints.newest_number:
            raise ContractError(
                "NEXTWATCH_TRAINER_CHECKPOINT_DIR: there are checkpoints, and histories are learned "
                "at the very first start alone: name another directory"
            )
        parts.journal.clear()
        if parts.state.joiner is not None:
            parts.state.joiner.load(None)
        self._read(CATALOGUE, lambda: not goes_on())
        if not len(parts.state.learner.vocabulary):
            raise ContractError(
                f"{VIDEO_UPLOADS.name} has no video: publish the catalogue first, since watches of "
                "unknown videos teach nothing"
            )
        self._is_catching_up = True

        def after_pass() -> bool:
            on_pass()
            return goes_on()

        backfill.take_over(
            parts.state,
            records,
            self._settings.completion,
            num_learned=num_learned,
            num_passes=num_passes,
            goes_on=after_pass,
        )
        if goes_on():
            self._is_catching_up, self._has_changed = False, True
            self.checkpoint()
            self._finish_saving(wait=True)
        return bool(parts.checkpoints.newest_number)

    def _learn_backlog(self, should_stop: Stop) -> None:
        """Read what the topics hold, learn from it in passes; the next record read is the next.

        Nothing is learned watch by watch meanwhile, which takes a hundred times as long.
        """
        state, settings, feed = self._parts.state, self._settings, self._parts.feed
        state.is_counting_only = True
        while not feed.has_read(ALL) and not should_stop():
            self.take()
            if self._report.is_due():
                log.info("backlog_read", records_left=feed.records_left(), users=len(state.windows),
                         **state.counts)  # fmt: skip
        state.count()
        state.is_counting_only = False
        if not should_stop():
            backfill.rehearse(
                state,
                settings.completion,
                num_passes=settings.backfill_passes,
                goes_on=lambda: not should_stop(),
            )

    def _resume(self, checkpoint: Checkpoint, should_stop: Stop) -> None:
        parts = self._parts
        self._read_announcements(should_stop)
        checkpoint_codec.restore(parts.state, checkpoint.files, checkpoint.directories)
        self._saving.go_on_from(checkpoint.number)
        self._note_erasures(parts.state.counts["erasures"])
        log.info("checkpoint_resumed", number=checkpoint.number,
                 examples=parts.state.progressive.num_examples)  # fmt: skip
        transitions = parts.journal.resume(checkpoint.number)
        try:
            parts.feed.open(ALL, checkpoint.offsets, checkpoint.topic_ids)
            self._repeat(transitions, should_stop)
            self._verify(should_stop)
        except BrokerLostRecordsError as error:
            if self._settings.after_broker_loss == "stop":
                raise
            log.warning("broker_loss_accepted", reason=str(error))
            self._is_catching_up = False
            parts.journal.clear()
            if parts.rollback is not None:
                parts.rollback.forget_logs()
            parts.feed.forget()
            parts.feed.open(ALL, {})
            self._has_changed = True
            self._checkpoint_if_possible()

    def _repeat(self, transitions: list[Transition], should_stop: Stop) -> None:
        """Do again what happened after the checkpoint; nothing is saved before that is done."""
        if not transitions:
            return
        started_s = time.monotonic()
        self._is_catching_up = self._has_changed = True
        self._transitions.repeat(transitions, self._parts.feed, should_stop)
        self._is_catching_up = should_stop()
        log.info("journal_repeated", transitions=len(transitions), took_s=since(started_s),
                 examples=self._parts.state.progressive.num_examples)  # fmt: skip

    def _read_announcements(self, should_stop: Stop) -> None:
        """Read what serves, before anything is restored: behind a backlog it would come late."""
        self._read((MODEL_BUNDLES,), should_stop)

    def _read(self, topics: Sequence[Topic], should_stop: Stop) -> None:
        """Read *topics* alone to their ends, unless nothing comes for as long as is waited."""
        feed, patience = self._parts.feed, Interval(self._settings.catalogue_wait_s)
        feed.open(topics, {})
        while not feed.has_read(topics) and not should_stop():
            if self.take():
                patience.restart()
            elif patience.is_due():
                log.warning("reading_cut_short", waited_s=self._settings.catalogue_wait_s)
                break
        self.offering.why_unknown()

    def _verify(self, should_stop: Stop) -> None:
        """Go on until the topics are known to reach to where reading them started."""
        feed, patience = self._parts.feed, Interval(self._settings.catalogue_wait_s)
        while not feed.is_verified and not should_stop() and not patience.is_due():
            self.take()
            self.learn_due()

    def _offsets(self) -> Offsets:
        """Return where the feed stands; what is read at starts alone has no place in it."""
        return {
            name: dict(offsets)
            for name, offsets in self._parts.feed.next_offsets.items()
            if name not in (MODEL_BUNDLES.name, WINDOWS.name)
        }

    def _log_progress(self) -> None:
        state, metrics = self._parts.state, self._parts.state.metrics()
        self._parts.metrics.show_progress(metrics)
        log.info(
            "progress_made",
            **{name: round(metrics[name], 4) for name in REPORTED},
            **{**state.counts, **self._parts.metrics.counts},
            lag_s=round(self._lag_ms / 1_000, 1),
            users=len(state.windows),
            waiting_watches=len(state.waiting),
            refused=self._parts.intake.refused.total(),
            mended=self._parts.intake.mended.total(),
            in_service=self._parts.generations.in_service,
            withheld=self.offering.withheld,
            **({} if self._parts.watch is None else self._parts.watch.progress()),
        )
        state.waiting.warn()
        self._parts.intake.warn_of_misplaced()
