"""Keep Kafka's jars in a cache of the user: fetched once, verified before every use.

A jar is downloaded beside its place and renamed once its checksum matches, so an interrupted
download goes on with the jars that are missing. A lock on the cache makes a second process
wait for the first one instead of fetching the same again.
"""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import platformdirs
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from contract.errors import StackError, StorageFull
from contract.process.exit_codes import is_storage_full
from nextwatch.embedded.kafka.artifacts import KAFKA_VERSION, Artifact, pinned, pins_digest

DOWNLOAD_TIMEOUT_S = 20
DOWNLOAD_TRIES = 3
NUM_CONNECTIONS = 4
_JARS = "jars"
_REMEDY = "name an unpacked Kafka distribution by --broker kafka:DIR or NEXTWATCH_KAFKA_HOME"


def cache_dir() -> Path:
    """Return the folder for this version of Kafka, which need not exist.

    It is below the user's cache or, where that cannot be written, in a private directory below the
    temporary one.

    Raises:
        StackError: neither can be had.
    """
    folder = _users_own()
    if _can_be_written(folder.parent):
        return folder
    return _private_directory(folder.parent) / folder.name


def _users_own() -> Path:
    root = platformdirs.user_cache_path("nextwatch", appauthor=False)
    return root / f"kafka-{KAFKA_VERSION}-{pins_digest()}"


def _can_be_written(root: Path) -> bool:
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return False
    return os.access(root, os.W_OK | os.X_OK)


@cache
def _private_directory(wanted: Path) -> Path:
    """Return a directory that nobody else can write, and say once that it replaces *wanted*."""
    root = Path(tempfile.gettempdir()) / f"nextwatch-cache-{os.getuid()}"
    try:
        root.mkdir(exist_ok=True, mode=0o700)
        status = root.lstat()
    except OSError as error:
        raise StackError(
            f"neither {wanted} nor {root} can be written ({error.strerror}): set XDG_CACHE_HOME "
            f"to a folder that can be, or {_REMEDY}"
        ) from error
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if not is_ours or status.st_mode & 0o077:
        raise StackError(
            f"{wanted} cannot be written, and {root} is open to other users: set XDG_CACHE_HOME "
            f"to a folder that can be written, or {_REMEDY}"
        )
    Console(stderr=True, soft_wrap=True).print(
        f"{wanted} cannot be written: Kafka is kept in {root}; XDG_CACHE_HOME names another place",
        style="yellow",
        highlight=False,
        markup=False,
    )
    return root


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of *folder* for a block that writes there; wait while another process holds it.

    Raises:
        StackError: the folder cannot be written.
        StorageFull: its disk is full, or became so in the block.
    """
    with _told_when_full(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (folder / ".lock").open("wb")
        except OSError as error:
            if is_storage_full(error):
                raise
            raise StackError(
                f"Kafka's jars cannot be kept in {folder} ({error.strerror}): "
                f"set XDG_CACHE_HOME to a folder that can be written, or {_REMEDY}"
            ) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextmanager
def _told_when_full(folder: Path) -> Iterator[None]:
    """Say of an error of the block that it is a full disk, where it is."""
    try:
        yield
    except (OSError, StackError) as error:
        if not is_storage_full(error):
            raise
        raise StorageFull(
            f"{folder}: No space left on device for Apache Kafka's jars: make room there, or name "
            "another cache directory by XDG_CACHE_HOME"
        ) from error


def fetched_jars(folder: Path) -> tuple[Path, ...]:
    """Return the jars in *folder*, after fetching those that are missing or damaged.

    If the user's own cache has all of them they are used there, also where it cannot be written.

    Raises:
        StackError: a jar cannot be fetched or kept, with the way around it.
        StorageFull: the disk is full.
    """
    for complete in (_users_own(), folder):
        if not _missing(complete):
            return _jars(complete)
    with locked(folder):
        (folder / _JARS).mkdir(exist_ok=True)
        if missing := _missing(folder):  # another process may have fetched them meanwhile
            _fetch(missing, folder / _JARS)
    return _jars(folder)


def _jars(folder: Path) -> tuple[Path, ...]:
    return tuple(folder / _JARS / artifact.file_name for artifact in pinned())


def _missing(folder: Path) -> list[Artifact]:
    places = zip(pinned(), _jars(folder), strict=True)
    return [artifact for artifact, path in places if not artifact.is_at(path)]


def _fetch(missing: Sequence[Artifact], jars: Path) -> None:
    """Download *missing* into *jars*, with a progress bar on stderr."""
    staging = Path(tempfile.mkdtemp(prefix=".fetch-", dir=jars))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    try:
        with Progress(*columns, console=Console(stderr=True)) as bar:
            total = sum(artifact.num_bytes for artifact in missing)
            task = bar.add_task(f"fetching Apache Kafka {KAFKA_VERSION}, once", total=total)
            with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
                done = pool.map(lambda artifact: _fetch_one(artifact, staging, jars), missing)
                for artifact, _ in zip(missing, done, strict=True):
                    bar.advance(task, artifact.num_bytes)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _fetch_one(artifact: Artifact, staging: Path, jars: Path) -> None:
    try:
        path = _download_again(artifact, staging)
        if not artifact.is_at(path):
            raise StackError(
                f"{artifact.file_name} was fetched with another checksum than the pinned one and "
                f"is not used: try again, or {_REMEDY}"
            )
        path.replace(jars / artifact.file_name)
    except OSError as error:
        if is_storage_full(error):
            raise
        reason = error.strerror or type(error).__name__
        raise StackError(
            f"Apache Kafka cannot be fetched ({artifact.file_name}: {reason}): connect to Maven "
            f"Central and start again, which fetches only what is missing, or {_REMEDY}"
        ) from error


def _download_again(artifact: Artifact, staging: Path) -> Path:
    """Download *artifact*; a connection that is lost is tried again, `DOWNLOAD_TRIES` in all."""
    for _ in range(DOWNLOAD_TRIES - 1):
        try:
            return _download(artifact, staging)
        except OSError as error:  # requests' errors are OSErrors, too
            if is_storage_full(error):
                raise
    return _download(artifact, staging)


def _download(artifact: Artifact, staging: Path) -> Path:
    """Return where jgo put *artifact* below *staging*."""
    from jgo.maven import MavenContext  # noqa: PLC0415 - only when something is missing

    maven = MavenContext(repo_cache=staging, local_repos=[], timeout=DOWNLOAD_TIMEOUT_S)
    project = maven.project(artifact.group, artifact.name)
    try:
        return project.at_version(artifact.version).artifact().resolve()
    except RuntimeError as error:  # jgo's word for "not found" and for a wrong checksum
        raise StackError(
            f"Maven Central does not offer {artifact.file_name}: try again, or {_REMEDY}"
        ) from error
