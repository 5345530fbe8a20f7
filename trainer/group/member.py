"""Train as one of several ranks: the loop of `trainer.loop`, in rounds taken together.

Rank 0 publishes, and decides when a checkpoint is saved. Every rank saves its own part in the same
round, under the same number, so that a restart goes on from the newest number that all ranks have.
What came after it is done again from the same offsets: each example counts once, in an order that
may differ from the first time, since a group keeps no journal.
"""

from collections.abc import Callable, Sequence

import msgspec
import structlog

from contract.errors import ContractError
from contract.wire.topics import MODEL_BUNDLES, Topic
from trainer.group.exchange import Exchange
from trainer.group.group import Group
from trainer.loop import ALL, CATALOGUE, Stop, Trainer
from trainer.parts import Parts
from trainer.settings import TrainerSettings
from trainer.state import checkpoint_codec
from trainer.state.checkpoint import Checkpoint
from trainer.timer import Interval

log = structlog.get_logger()


class _Wish(msgspec.Struct, array_like=True):
    """Whether a rank wants a checkpoint, is busy with one, and the next number it has free."""

    is_wanted: bool
    is_busy: bool
    next_number: int


class Member(Trainer):
    """One rank of a group."""

    def __init__(self, parts: Parts, settings: TrainerSettings, group: Group) -> None:
        super().__init__(parts, settings)
        self._group = group
        self._is_wanted = False
        self._exchange = Exchange(group, parts.state, parts.intake, batch_size=settings.batch_size)

    def run(self, should_stop: Stop, on_ready: Callable[[], None]) -> None:
        """Start, call *on_ready*, learn until any rank is to stop, then save a checkpoint."""

        def stop() -> bool:
            return self._group.any(should_stop())

        self._start_together(stop)
        on_ready()
        while not stop():
            self.step()
        for _ in range(2):
            self._finish_saving(wait=True)
            self._is_wanted = self._has_changed
            self._save_together()
        self._finish_saving(wait=True)

    def step(self) -> None:
        """Run one round of the loop."""
        self.take()
        self._finish_saving()
        if self._group.is_first:
            if self._fast_path.is_due():
                self._has_changed |= self.offering.publish_vectors()
            if (
                not self._saving.is_running
                and not self.offering.is_pending
                and self._slow_path.is_due()
            ):
                self.offering.offer_next()
            if self._next_checkpoint.is_due():
                self._is_wanted = True
        self._save_together()
        if self._report.is_due():
            self._log_progress()

    def take(self) -> int:
        """Take new records, and learn what all ranks have; return how many this one has taken."""
        feed = self._parts.feed
        records = self._poll()
        self._parts.state_clock.now_ms = self._parts.clock()
        idle = self._idle.note(feed.at_end(), {record.at for record in records})
        is_aged = self._is_waiting and self._batch_age.is_due()
        was_empty = not self._is_waiting
        with self._parts.metrics.phase("take"):
            self._has_changed |= self._exchange.take(records, idle, is_aged=is_aged)
        if was_empty:
            self._batch_age.restart()
        return len(records)

    def checkpoint(self) -> None:
        """Ask for a checkpoint; all ranks save it at the end of this round."""
        self._is_wanted = True

    def _save_together(self) -> None:
        """Begin a checkpoint in all ranks, if it is wanted and all have written the last one."""
        wish = _Wish(self._is_wanted, self._saving.is_running, self._saving.next_number)
        told = self._group.gather(msgspec.msgpack.encode(wish))
        wishes = [msgspec.msgpack.decode(one, type=_Wish) for one in told]
        if not any(one.is_wanted for one in wishes) or any(one.is_busy for one in wishes):
            return
        self._is_wanted = False
        self._save(number=max(one.next_number for one in wishes))

    def _start_together(self, stop: Stop) -> None:
        settings = self._settings
        is_wanted = "backfill_users" in settings.model_fields_set and settings.backfill_users
        if is_wanted or settings.backfill_passes:
            raise ContractError(
                "NEXTWATCH_TRAINER_BACKFILL_USERS, NEXTWATCH_TRAINER_BACKFILL_PASSES: a group of "
                "trainers learns everything watch by watch: set them to 0"
            )
        checkpoint = self._agreed()
        feed, state = self._parts.feed, self._parts.state
        self._parts.journal.clear()
        if checkpoint is None:
            if state.joiner is not None:
                state.joiner.load(None)
            self._read_together(CATALOGUE, stop)
            feed.open(ALL, {})
        else:
            self._read_together((MODEL_BUNDLES,), stop)
            checkpoint_codec.restore(state, checkpoint.files, checkpoint.directories)
            self._saving.go_on_from(checkpoint.number)
            log.info("checkpoint_resumed", number=checkpoint.number, rank=self._group.rank)
            feed.open(ALL, checkpoint.offsets, checkpoint.topic_ids)
            self._verify_together(stop)
        if self._group.is_first and not self._parts.generations.has_any:
            self.offering.offer()
        for interval in (self._fast_path, self._slow_path, self._next_checkpoint):
            interval.restart()

    def _agreed(self) -> Checkpoint | None:
        """Return the newest checkpoint that all ranks have whole, None if one of them has none.

        Raises:
            ContractError: they have none in common.
        """
        check, at_most = checkpoint_codec.check_usable, None
        while True:
            found = self._parts.checkpoints.newest(check, at_most=at_most)
            told = self._group.gather(str(found.number if found else 0).encode())
            numbers = [int(one) for one in told]
            if not any(numbers):
                return None
            if not all(numbers):
                raise ContractError(
                    f"the ranks have no checkpoint in common, they found {numbers}: move "
                    "NEXTWATCH_TRAINER_CHECKPOINT_DIR away to start over"
                )
            if len(set(numbers)) == 1:
                return found
            at_most = min(numbers)

    def _read_together(self, topics: Sequence[Topic], stop: Stop) -> None:
        """Read *topics* alone to their ends, unless nothing comes for as long as is waited."""
        feed, patience = self._parts.feed, Interval(self._settings.catalogue_wait_s)
        feed.open(topics, {})
        while not self._group.all(feed.has_read(topics)):
            if stop():
                break
            if self._group.any(bool(self.take())):
                patience.restart()
            elif self._group.any(patience.is_due()):
                log.warning("reading_cut_short", waited_s=self._settings.catalogue_wait_s)
                break
        self.offering.why_unknown()

    def _verify_together(self, stop: Stop) -> None:
        """Go on until the topics are known to reach to where reading them started."""
        patience = Interval(self._settings.catalogue_wait_s)
        while not self._group.all(self._parts.feed.is_verified):
            if stop() or self._group.any(patience.is_due()):
                return
            self.take()
