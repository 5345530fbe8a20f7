"""Save checkpoints beside learning.

The learning thread makes a consistent copy of the state (`checkpoint_codec.snapshot`), links the
files of the joiner's store, and begins a segment of the journal; a thread of its own writes the
copy, syncs and hashes it. One checkpoint is written at a time.

The order of effects: copy, new segment of the journal, checkpoint on disk, old segments deleted. A
crash after any of them finds the checkpoint before it and every segment since.
"""

import shutil
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from contract.process.memory import mapped_apart
from trainer.state import checkpoint_codec
from trainer.state.checkpoint import Checkpoints, Offsets, remove
from trainer.state.checkpoint_codec import Snapshot
from trainer.state.journal import Journal
from trainer.state.training_state import TrainingState

_STAGE = "stage-"


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint that is on disk."""

    number: int
    path: Path
    offsets: Offsets


class Saving:
    """Writes checkpoints with *executor*, one after the other; `begin` and `poll` by one thread."""

    def __init__(self, checkpoints: Checkpoints, journal: Journal, executor: Executor) -> None:
        self._checkpoints = checkpoints
        self._journal = journal
        self._executor = executor
        self._running: Future[Saved] | None = None
        self._newest = 0
        self._state: TrainingState | None = None

    @property
    def is_running(self) -> bool:
        """Whether a checkpoint is being written, or `poll` has not told of it yet."""
        return self._running is not None

    @property
    def next_number(self) -> int:
        """The number of the next checkpoint."""
        return max(self._checkpoints.newest_number, self._journal.newest) + 1

    def go_on_from(self, number: int) -> None:
        """Let the next checkpoint share files with checkpoint *number*, which was restored."""
        self._newest = number
        for stage in self._checkpoints.directory.glob(f"{_STAGE}*"):
            remove(stage)

    @mapped_apart()
    def begin(
        self,
        state: TrainingState,
        offsets: Offsets,
        topic_ids: Mapping[str, int],
        *,
        created_at_ms: int,
        number: int | None = None,
    ) -> None:
        """Copy *state* and begin to write it; no other checkpoint may be running.

        Without *number* it is the next one.

        Raises:
            OSError: the disk is full.
        """
        assert self._running is None
        number = self.next_number if number is None else number
        staged = self._staged(state, number)
        self._state, copied = state, checkpoint_codec.snapshot(state)
        try:
            self._journal.begin(number)
        except OSError:
            state.windows.forget_base()  # the one of this copy is not written
            raise
        self._running = self._executor.submit(
            self._write, number, copied, offsets, dict(topic_ids), staged, created_at_ms
        )

    def poll(self, *, wait: bool = False) -> Saved | None:
        """Return the checkpoint that is on disk by now, if that was not told before.

        Raises:
            OSError: it could not be written.
            NotFiniteError: it was not written, since what was learned is not finite.
        """
        if self._running is None or not (wait or self._running.done()):
            return None
        running, self._running = self._running, None
        try:
            saved = running.result()
        except BaseException:
            if self._state is not None:
                self._state.windows.forget_base()
            raise
        self._newest = saved.number
        self._journal.discard_before(self._checkpoints.oldest_number)
        return saved

    def _staged(self, state: TrainingState, number: int) -> dict[str, Path]:
        """Make the directories of the checkpoint, beside it, and return their places."""
        self._checkpoints.directory.mkdir(parents=True, exist_ok=True)
        staged = {}
        for name, make in checkpoint_codec.directories(state).items():
            place = self._checkpoints.directory / f"{_STAGE}{number:012d}-{name}"
            shutil.rmtree(place, ignore_errors=True)
            make(place)
            staged[name] = place
        return staged

    def _write(
        self,
        number: int,
        copied: Snapshot,
        offsets: Offsets,
        topic_ids: Mapping[str, int],
        staged: Mapping[str, Path],
        created_at_ms: int,
    ) -> Saved:
        try:
            with mapped_apart():
                files = copied.files()
            path = self._checkpoints.save(
                files,
                offsets=offsets,
                topic_ids=topic_ids,
                directories={name: partial(_move, place) for name, place in staged.items()},
                created_at_ms=created_at_ms,
                number=number,
                shared=copied.shared,
                shared_with=self._newest,
            )
        finally:
            for place in staged.values():
                shutil.rmtree(place, ignore_errors=True)
        return Saved(number, path, offsets)


def _move(source: Path, target: Path) -> None:
    source.rename(target)
