"""Save and read checkpoints: everything learned, with the offsets it was learned up to.

A checkpoint is a directory, whole or absent (`contract.process.atomic_write`). The manifest has
size and sha256 of every file, and a sum beside it for itself: a damaged checkpoint is passed over
for the one before it, and since offsets are part of it, that one is just further back in time, not
wrong. A disk that cannot be read right now is waited for: it says nothing of what is on it. The
newest three are kept. Never a pickle.

A file that has not changed since the checkpoint before is shared with it, by a hard link.

A store of gigabytes is a directory of its own in there, made of hard links. Its files are listed by
size alone: to hash them all every time would take longer than learning, and the store has checksums
of its own, which it compares whenever it reads.
"""

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import structlog

from contract.errors import ContractError, StoreUnavailable
from contract.kafka.retries import until_answered
from contract.process.atomic_write import DRAFT_SUFFIX, Content, write_directory

log = structlog.get_logger()

VERSION = 1
MANIFEST = "manifest.json"
MANIFEST_SUM = "manifest.sha256"
READ_WITHIN_S = 30.0
"""How long a disk that does not give a checkpoint is asked again."""
_PREFIX = "ckpt-"
_NAME = re.compile(f"{_PREFIX}([0-9]{{12}})")
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_LIBRARIES = ("numpy", "torch", "msgspec", "safetensors")

Offsets = dict[str, dict[int, int]]
"""Topic -> partition -> the first offset that has not been learned from."""


class _File(msgspec.Struct, frozen=True):
    sha256: str
    size: int


class CheckpointManifest(msgspec.Struct, frozen=True, kw_only=True):
    """The table of contents of a checkpoint."""

    version: int = VERSION
    number: int
    created_at_ms: int
    offsets: Offsets
    topic_ids: dict[str, int] = {}  # checkpoints of 0.2.0 have none
    files: dict[str, _File]
    directories: dict[str, dict[str, int]] = {}
    libraries: dict[str, str]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint, read and verified.

    *topic_ids* say which topics the offsets are of, by name; an unknown id is left out.
    *directories* are where they lie in the checkpoint, to be read and never written to.
    """

    number: int
    offsets: Offsets
    files: Mapping[str, bytes]
    topic_ids: Mapping[str, int]
    directories: Mapping[str, Path]


class CheckpointError(ContractError):
    """Every checkpoint is damaged."""


class Checkpoints:
    """The checkpoints in one directory."""

    def __init__(self, directory: Path, *, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.directory = directory
        self.keep = keep
        """How many checkpoints there are at most; saving so many replaces all there are now."""

    def save(
        self,
        files: Mapping[str, Content],
        *,
        offsets: Offsets,
        created_at_ms: int,
        topic_ids: Mapping[str, int] = {},
        directories: Mapping[str, Callable[[Path], None]] = {},
        number: int | None = None,
        shared: Collection[str] = (),
        shared_with: int = 0,
    ) -> Path:
        """Write a checkpoint, then delete the oldest beyond those that are kept.

        Each of *directories* is called with the path of the directory that it makes. The files
        named in *shared* are those of checkpoint *shared_with*. Without *number* it is the next.

        Raises:
            OSError: it could not be written.
        """
        for abandoned in self.directory.glob(f"{_PREFIX}*{DRAFT_SUFFIX}"):
            remove(abandoned)
        if number is None:
            number = self.newest_number + 1
        final = self.path(number)
        entries = self._entries(shared_with, shared)
        libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}

        def last_files(draft: Path) -> dict[str, bytes]:
            for name in shared:
                _share(self.path(shared_with) / name, draft / name)
            encoded = msgspec.json.encode(
                CheckpointManifest(
                    number=number,
                    created_at_ms=created_at_ms,
                    offsets=offsets,
                    topic_ids=dict(topic_ids),
                    files=entries | {name: _entry(draft / name) for name in files},
                    directories={name: _sizes(draft / name) for name in directories},
                    libraries=libraries | {"python": platform.python_version()},
                )
            )
            return {MANIFEST: encoded, MANIFEST_SUM: _sha256(encoded).encode()}

        write_directory(final, files, directories, last_files=last_files)
        for old in sorted(self._numbers())[: -self.keep]:
            remove(self.path(old))
        return final

    def drop_after(self, number: int) -> None:
        """Delete the checkpoints after *number*, the newest first; what has another name stays.

        Raises:
            OSError: the disk cannot be written to.
        """
        for newer in sorted((n for n in self._numbers() if n > number), reverse=True):
            remove(self.path(newer))

    @property
    def newest_number(self) -> int:
        """The number of the newest checkpoint, damaged or not; 0 if there is none."""
        return max(self._numbers(), default=0)

    @property
    def oldest_number(self) -> int:
        """The number of the oldest checkpoint; 0 if there is none."""
        return min(self._numbers(), default=0)

    def newest(
        self,
        check: Callable[[Mapping[str, bytes]], None] = lambda _files: None,
        *,
        at_most: int | None = None,
    ) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, or None when there never was one.

        One whose files *check* rejects by a `ValueError` is passed over as a damaged one is, and
        one beyond the number *at_most* is left alone.

        Raises:
            CheckpointError: there are some, all of them damaged.
            StoreUnavailable: the disk did not give one within `READ_WITHIN_S`.
        """
        wanted = (n for n in self._numbers() if at_most is None or n <= at_most)
        numbers = sorted(wanted, reverse=True)
        for number in numbers:
            try:
                found = until_answered(partial(self._read, number), within_s=READ_WITHIN_S)
                check(found.files)
            except (*_ABSENT, msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
                log.warning("checkpoint_passed_over", number=number, reason=str(error))
            else:
                return found
        if numbers:
            raise CheckpointError(
                f"every checkpoint in {self.directory} is damaged; move the directory away "
                "to start over"
            )
        return None

    def _read(self, number: int) -> Checkpoint:
        """Return checkpoint *number*; only what is wrong with itself is raised as it is."""
        try:
            return self._verified(number)
        except _ABSENT:
            raise
        except OSError as error:
            raise StoreUnavailable(
                f"{self.path(number)} cannot be read: {error.strerror or error}: mend the disk, or "
                "move the directory away to go on from the checkpoint before it"
            ) from error

    def _verified(self, number: int) -> Checkpoint:
        path = self.path(number)
        encoded = (path / MANIFEST).read_bytes()
        if _sha256(encoded).encode() != (path / MANIFEST_SUM).read_bytes():
            raise ValueError(f"{MANIFEST} does not have the sha256 beside it")
        manifest = msgspec.json.decode(encoded, type=CheckpointManifest)
        if manifest.version != VERSION:
            raise ValueError(f"version {manifest.version}; this code reads {VERSION}")
        if manifest.number != number:
            raise ValueError(f"the manifest is of checkpoint {manifest.number}")
        files = {name: _content(path / name, entry) for name, entry in manifest.files.items()}
        for name, sizes in manifest.directories.items():
            if "/" in name or _sizes(path / name) != sizes:
                raise ValueError(f"{name} does not have the files of the manifest")
        directories = {name: path / name for name in manifest.directories}
        return Checkpoint(number, manifest.offsets, files, manifest.topic_ids, directories)

    def _entries(self, number: int, names: Collection[str]) -> dict[str, _File]:
        """Return what the manifest of checkpoint *number* says of the files *names*."""
        if not names:
            return {}
        encoded = (self.path(number) / MANIFEST).read_bytes()
        files = msgspec.json.decode(encoded, type=CheckpointManifest).files
        return {name: files[name] for name in names}

    def path(self, number: int) -> Path:
        """Return where checkpoint *number* is, or would be."""
        return self.directory / f"{_PREFIX}{number:012d}"

    def _numbers(self) -> list[int]:
        matches = (_NAME.fullmatch(path.name) for path in self.directory.glob(f"{_PREFIX}*"))
        return [int(match[1]) for match in matches if match is not None]


def _content(path: Path, entry: _File) -> bytes:
    if "/" in path.name or path.stat().st_size != entry.size:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, not {entry.size}")
    data = path.read_bytes()
    if _sha256(data) != entry.sha256:
        raise ValueError(f"{path.name} does not have the sha256 of the manifest")
    return data


def remove(path: Path) -> None:
    """Delete *path*, a directory with all in it or whatever else has the name."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _share(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _sizes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(directory.iterdir())}


def _entry(path: Path) -> _File:
    with path.open("rb") as file:
        return _File(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
