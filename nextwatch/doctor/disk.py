"""Check the room on this machine's disks where state, checkpoints and bundles are."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from nextwatch.doctor.diagnosis import Diagnosis, PartHealth

LEAST_FREE = 1 << 30
LOW_SHARE = 0.10
_GIB = 1 << 30

Usage = Callable[[Path], tuple[int, int, int]]
"""Returns total, used and free bytes of the disk that a path is on."""


def disk_diagnoses(
    places: Mapping[str, Path], usage: Usage = shutil.disk_usage
) -> Iterator[Diagnosis]:
    """Yield the room at each of *places*, by the setting that names it."""
    for setting, directory in places.items():
        try:
            existing = _existing(directory)
            total, _, free = usage(existing)
        except OSError as error:
            yield _of(
                setting, PartHealth.WRONG, f"{directory}: {error.strerror}", f"mend {setting}"
            )
            continue
        made = "" if existing == directory.absolute() else ", not made yet"
        told = f"{directory}{made}: {free / _GIB:.1f} of {total / _GIB:.1f} GiB free"
        remedy = f"make room there, or name another place by {setting}"
        if free < LEAST_FREE:
            yield _of(setting, PartHealth.WRONG, told, remedy)
        elif free < LOW_SHARE * total:
            yield _of(setting, PartHealth.NOTED, told, remedy)
        else:
            yield _of(setting, PartHealth.OK, told)


def local_path(url: str) -> Path | None:
    """Return the directory that a bundle URL names on this machine; None for another store."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url)
    return Path(unquote(rest)) if scheme in ("file", "local") else None


def _existing(directory: Path) -> Path:
    """Return the directory, or the nearest one above it that exists.

    Raises:
        OSError: it cannot be made, since something else is in its place, or looked up.
    """
    absolute = directory.absolute()
    for path in (absolute, *absolute.parents):
        if path.is_dir():
            return path
        if path.exists() or path.is_symlink():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    return Path(absolute.anchor)


def _of(setting: str, health: PartHealth, found: str, remedy: str = "") -> Diagnosis:
    return Diagnosis(check="disk", what=setting, health=health, found=found, remedy=remedy)
