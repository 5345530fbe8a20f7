"""Write directories and files so that they are whole or absent after a crash.

A directory is written as a draft beside its place: each file followed by fsync, then fsync of
the draft, the rename to its name, and fsync of the parent, which makes the rename last. A crash
before the rename leaves a draft, which nobody reads; after it everything is there.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

DRAFT_SUFFIX = ".tmp"

Content = bytes | Callable[[Path], None]
"""The bytes of a file, or what writes it at a path, for what is too large to be in memory twice."""


def draft_of(final: Path) -> Path:
    """Return where the draft of *final* is written."""
    return final.with_name(final.name + DRAFT_SUFFIX)


def write_directory(
    final: Path,
    files: Mapping[str, Content],
    directories: Mapping[str, Callable[[Path], None]] = {},
    *,
    last_files: Callable[[Path], Mapping[str, bytes]] = lambda _draft: {},
) -> None:
    """Make *final* a directory of *files*, written in their order, or leave nothing of it.

    Each of *directories* makes a directory of that name, of files alone; *last_files* then tells
    from the draft what is written at the end.

    Raises:
        FileExistsError: there is something at *final*.
        OSError: a file could not be written.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists():
        raise FileExistsError(f"{final} exists")
    draft = draft_of(final)
    shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
    draft.mkdir()
    try:
        for name, content in files.items():
            if isinstance(content, bytes):
                _write(draft / name, content)
            else:
                content(draft / name)
                # as any other file, whatever mode a library gives to its own
                (draft / name).chmod(draft.stat().st_mode & 0o666)
                _sync(draft / name)
        for name, make in directories.items():
            make(draft / name)
            for path in (*sorted((draft / name).iterdir()), draft / name):
                _sync(path)
        for name, data in last_files(draft).items():
            _write(draft / name, data)
        _sync(draft)
        draft.rename(final)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _sync(final.parent)


def replace_file(final: Path, data: bytes) -> None:
    """Replace the content of *final* by *data* atomically, also with regard to a crash.

    Raises:
        OSError: it could not be written.
    """
    draft = draft_of(final)
    _write(draft, data)
    draft.replace(final)
    _sync(final.parent)


def finish_draft(final: Path) -> None:
    """Give the draft of *final* its name, once all of it is on disk, also with regard to a crash.

    Raises:
        OSError: it could not be written.
    """
    draft = draft_of(final)
    _sync(draft)
    draft.replace(final)
    _sync(final.parent)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
