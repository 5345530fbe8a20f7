"""Keep the checkpoint of each offered generation, and go back to one.

A kept checkpoint is made of hard links, so it takes no space before the checkpoint it came from is
deleted; where the file system has no links it is a copy. Going back is prepared on disk, and done
by starting over from the newest checkpoint, as after a crash:

1. the quarantine is written: what must not be learned from again;
2. the kept checkpoint becomes the newest one, and those after it are deleted;
3. the kept checkpoints of the generations after it are deleted.

A kept checkpoint of a withdrawn generation says that this was not done to its end; the next start
does it again.

That nothing is to be published yet after going back is a file beside the checkpoints, and not in
them: the one gone back to is older than the trouble. So is which kept checkpoints may have a user
who was erased since: a restart must not forget to delete them.
"""

import errno
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec
import structlog

from contract.process.atomic_write import DRAFT_SUFFIX, replace_file
from trainer.guard.quarantine import Entry, Quarantine
from trainer.state.checkpoint import Checkpoints, Offsets

log = structlog.get_logger()

KEPT_GENERATIONS = 4
_DIRECTORY = "generations"
_HELD = "held"
_NAMING_ERASED = "naming_erased.json"
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


class Rollback:
    """The kept checkpoints beside those in *directory*, and the quarantine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.quarantine = Quarantine(directory)

    @property
    def is_held(self) -> bool:
        """Whether `hold` was called and `release` was not, by this process or one before."""
        return (self._directory / _HELD).exists()

    def hold(self) -> None:
        """Remember that nothing is to be published yet.

        Raises:
            OSError: the disk cannot be written to.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        replace_file(self._directory / _HELD, b"")

    def release(self) -> None:
        """Forget what `hold` remembers."""
        (self._directory / _HELD).unlink(missing_ok=True)

    @property
    def naming_erased(self) -> list[int]:
        """The generations whose kept checkpoints may have a user who was erased."""
        try:
            return msgspec.json.decode(self._naming_erased.read_bytes(), type=list[int])
        except (FileNotFoundError, msgspec.MsgspecError):
            return self.generations if self._naming_erased.exists() else []

    def note_erasure(self) -> None:
        """Remember that the checkpoints kept so far may have a user who was erased.

        Raises:
            OSError: the disk cannot be written to.
        """
        if self.generations:
            replace_file(self._naming_erased, msgspec.json.encode(self.generations))

    def drop_erased(self) -> None:
        """Delete the kept checkpoints that may have a user who was erased."""
        self.drop(self.naming_erased)
        self._naming_erased.unlink(missing_ok=True)

    @property
    def generations(self) -> list[int]:
        """The generations whose checkpoints are kept, oldest first."""
        kept = self._directory / _DIRECTORY
        names = [path.name for path in kept.iterdir() if path.is_dir()] if kept.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal())

    def keep(self, generation: int, checkpoint: Path) -> None:
        """Keep *checkpoint* as that of *generation*; delete the oldest ones that are kept.

        Raises:
            OSError: the disk is full; nothing of it is left.
        """
        final = self._path(generation)
        draft = final.with_name(final.name + DRAFT_SUFFIX)
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(final, ignore_errors=True)
        try:
            _link(checkpoint, draft / checkpoint.name)
            draft.rename(final)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        for old in self.generations[:-KEPT_GENERATIONS]:
            shutil.rmtree(self._path(old))

    def unfinished(self, withdrawn: Collection[int]) -> list[int]:
        """Return the *withdrawn* generations that were not gone back from yet."""
        return [generation for generation in self.generations if generation in withdrawn]

    def drop(self, generations: Collection[int]) -> None:
        """Delete the kept checkpoints of *generations*."""
        for generation in generations:
            shutil.rmtree(self._path(generation), ignore_errors=True)

    def forget_logs(self) -> None:
        """Forget what is left out, and what there is to go back to: the topics are others now.

        Their new records have the offsets of the old ones, and would be left out for those.

        Raises:
            OSError: the disk cannot be written to.
        """
        self.quarantine.clear()
        self.drop(self.generations)

    def offsets(self, generation: int) -> Offsets:
        """Return up to where the checkpoint of *generation* had learned; none if it is damaged."""
        newest = Checkpoints(self._path(generation)).newest()
        return newest.offsets if newest is not None else {}

    def go_back(
        self,
        generation: int,
        *,
        reason: str,
        now_ms: int,
        first: Mapping[str, Mapping[int, int]],
        end: Mapping[str, Mapping[int, int]],
    ) -> Entry:
        """Make the checkpoint of *generation* the newest; leave out the records first to end.

        Raises:
            CheckpointError: the checkpoint is damaged.
            OSError: the disk cannot be written to.
        """
        kept = Checkpoints(self._path(generation)).newest()
        if kept is None:
            raise FileNotFoundError(f"there is no checkpoint of generation {generation}")
        entry = self.quarantine.add(
            reason=reason, now_ms=now_ms, generation=generation, first=first, end=end
        )
        checkpoints = Checkpoints(self._directory)
        target = checkpoints.path(kept.number)
        if not target.exists():
            draft = target.with_name(target.name + DRAFT_SUFFIX)
            shutil.rmtree(draft, ignore_errors=True)
            _link(Checkpoints(self._path(generation)).path(kept.number), draft)
            draft.rename(target)
        checkpoints.drop_after(kept.number)
        for later in self.generations:
            if later > generation:
                shutil.rmtree(self._path(later))
        log.warning(
            "batches_quarantined",
            reason=reason,
            generation=generation,
            records=entry.num_records,
            first=entry.first,
            end=entry.end,
        )
        return entry

    @property
    def _naming_erased(self) -> Path:
        return self._directory / _NAMING_ERASED

    def _path(self, generation: int) -> Path:
        return self._directory / _DIRECTORY / str(generation)


def _link(source: Path, target: Path) -> None:
    """Make *target* a copy of the directory *source*, of hard links where there are some."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)
