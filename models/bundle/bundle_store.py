"""Store bundles in a directory, or under a prefix of an object store, through fsspec.

On a local disk a bundle is written beside its place and renamed into it; elsewhere its manifest
is written last, and without a manifest there is no bundle. Whatever a store raises, of whichever
library, says nothing of the bundle: it is `StoreUnavailable`, and asked for again later.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from contract.errors import BundleError, ContractError, StoreUnavailable
from contract.process.atomic_write import write_directory

MANIFEST = "manifest.json"
_VARIABLE = "NEXTWATCH_PROCESS_BUNDLE_URL"
_REMEDY = f"see that {_VARIABLE} names the same store for trainer, index_sync and streams"


def check_url(root_url: str) -> None:
    """Check that there is a file system for *root_url*; no request is made.

    Raises:
        ContractError: there is none, or the package for it is not installed.
    """
    try:
        fsspec.core.url_to_fs(root_url)
    except (ValueError, ImportError) as error:
        raise ContractError(
            f"{_VARIABLE}: {root_url}: {error}: name a directory, or a URL that fsspec can open"
        ) from error


@dataclass(frozen=True, slots=True)
class StoredBundle:
    """The place of one bundle in its store."""

    url: str
    filesystem: fsspec.AbstractFileSystem
    path: str

    @classmethod
    def at(cls, url: str) -> "StoredBundle":
        """Return the place that *url* names."""
        filesystem, path = fsspec.core.url_to_fs(url)
        return cls(url, filesystem, path.rstrip("/"))

    def sizes(self) -> dict[str, int | None]:
        """Return the size in bytes of each file, by name; None for what is not a file.

        Raises:
            StoreUnavailable: the store does not answer, or there is no manifest there (yet).
        """
        with self._asked():
            self.filesystem.invalidate_cache()  # a listing from before the bundle was written
            sizes = {
                entry["name"].rpartition("/")[2]: entry["size"] if entry["type"] == "file" else None
                for entry in self.filesystem.ls(self.path, detail=True)
            }
        if MANIFEST not in sizes:
            raise StoreUnavailable(
                f"bundle at {self.url} has no {MANIFEST}: {_REMEDY}", is_missing=True
            )
        return sizes

    def read(self, name: str) -> bytes:
        """Return the content of one file.

        Raises:
            StoreUnavailable: the store does not return it.
        """
        with self._asked():
            content: bytes = self.filesystem.cat_file(f"{self.path}/{name}")
            return content

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write *files*, the manifest last; whole or not at all.

        Raises:
            BundleError: there is a bundle at this place; bundles never change.
            StoreUnavailable: the store cannot be written to.
        """
        with self._asked():
            is_there = self.filesystem.exists(self.path)
        if is_there:
            raise BundleError(f"bundle {self.path.rpartition('/')[2]} exists already")
        if isinstance(self.filesystem, LocalFileSystem):
            write_directory(Path(self.path), files)
            return
        try:
            with self._asked():
                for name, data in files.items():
                    self.filesystem.pipe_file(f"{self.path}/{name}", data)
        except StoreUnavailable:
            with suppress(Exception):  # whatever the store raises, the first failure is told
                self.filesystem.rm(self.path, recursive=True)
            raise

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Turn what any store raises into `StoreUnavailable`: each has exceptions of its own."""
        try:
            yield
        except Exception as error:
            raise StoreUnavailable(
                f"bundle at {self.url} cannot be reached: {type(error).__name__}: {error}: {_REMEDY}",
                is_missing=isinstance(error, FileNotFoundError),
            ) from error
