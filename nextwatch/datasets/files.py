"""Find the files of a data set: in its folder, its archive's ``data`` folder, or a .zip.

The publishers' archives unpack to a folder of their own, some with the tables in a ``data``
folder below it, so the folder that is named may be either. A .zip is read where it lies.
"""

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO
from zipfile import BadZipFile, ZipFile

from contract.errors import DatasetError


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file: *path*, or the *member* of the archive that is at *path*."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    @property
    def name(self) -> str:
        """The name of the file, without its folder."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file for its bytes, unpacked if its name ends in ``.gz``."""
        with self._open_packed() as packed:
            if self.name.endswith(".gz"):
                with gzip.open(packed) as unpacked:
                    yield unpacked  # type: ignore[misc]  # a GzipFile reads as any binary file
            else:
                yield packed

    @contextmanager
    def _open_packed(self) -> Iterator[IO[bytes]]:
        if self.member:
            with ZipFile(self.path) as archive, archive.open(self.member) as file:
                yield file
        else:
            with self.path.open("rb") as file:
                yield file


def find(place: Path, patterns: Sequence[str]) -> list[DataFile]:
    """Return the files in *place* of the first of *patterns* that matches any, by name.

    *place* is a folder or a .zip; nothing is found where it does not exist or is damaged.
    """
    there = _listed(place)
    for pattern in patterns:
        if found := [file for file in there if fnmatch(file.name, pattern)]:
            return sorted(found, key=lambda file: file.name)
    return []


def find_or_raise(place: Path, patterns: Sequence[str], remedy: str) -> list[DataFile]:
    """Return the files in *place* of the first of *patterns* that matches any.

    Raises:
        DatasetError: there is no such folder or file; with the *remedy*.
    """
    if not place.exists():
        raise DatasetError(f"no folder {place}. {remedy}")
    found = find(place, patterns)
    if not found:
        raise DatasetError(f"{place} holds no {' or '.join(patterns)}. {remedy}")
    return found


def _listed(place: Path) -> list[DataFile]:
    if place.is_dir():
        folders = [place, place / "data"]
        return [DataFile(path) for folder in folders for path in folder.glob("*")]
    try:
        with ZipFile(place) as archive:
            return [DataFile(place, member) for member in archive.namelist()]
    except (OSError, BadZipFile):
        return []
