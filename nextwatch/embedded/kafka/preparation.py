"""Prepare a distribution once for each user: the formatted template and the AOT cache."""

import shutil
import tempfile
from pathlib import Path

from rich.console import Console

from contract.errors import StackError
from nextwatch.embedded.kafka import node
from nextwatch.embedded.kafka.artifacts import sha256_of
from nextwatch.embedded.kafka.cache import locked
from nextwatch.embedded.kafka.distribution import Distribution
from nextwatch.embedded.kafka.recording import record

_KEPT_AOT_CACHES = 3
_AOT_BYTES = 96 << 20
"""Free space that a recording needs; a cache takes 73 MB."""


def prepare(distribution: Distribution) -> None:
    """Create the template and the AOT cache of *distribution*, unless they exist.

    Raises:
        StackError: the log directory cannot be formatted, or the cache cannot be written.
        StorageFull: the disk of the cache is full.
    """
    aot_cache = distribution.aot_cache
    is_recorded = aot_cache is None or _is_whole(aot_cache)
    if node.is_formatted(distribution.template) and is_recorded:
        return
    with locked(distribution.work_dir):
        if not node.is_formatted(distribution.template):
            _make_template(distribution)
        if aot_cache is not None and not _is_whole(aot_cache):
            _sweep(distribution.work_dir)
            _record_with_notice(distribution, aot_cache)


def _is_whole(aot_cache: Path) -> bool:
    """Return whether the file is as it was recorded: the JVM crashes on a damaged one."""
    try:
        return sha256_of(aot_cache) == _checksum_of(aot_cache).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return False


def _checksum_of(aot_cache: Path) -> Path:
    return aot_cache.with_suffix(".aot.sha256")


def _make_template(distribution: Distribution) -> None:
    with tempfile.TemporaryDirectory(dir=distribution.work_dir, prefix=".format-") as name:
        draft = Path(name)
        settings = node.configure(
            draft, data_dir=draft / "data", port=9092, controller_port=9093, advertised_port=9092
        )
        node.format_directory(distribution, settings)
        shutil.rmtree(distribution.template, ignore_errors=True)
        (draft / "data").rename(distribution.template)


def _record_with_notice(distribution: Distribution, aot_cache: Path) -> None:
    """Record the AOT cache; without it the broker only starts slower."""
    console = Console(stderr=True, soft_wrap=True)
    free = shutil.disk_usage(distribution.work_dir).free
    if free < _AOT_BYTES:
        reason = f"{free >> 20} MB free in {distribution.work_dir}, {_AOT_BYTES >> 20} MB needed"
        _say_slower(console, reason)
        return
    with console.status(f"preparing {distribution.name} for fast starts, once (about 15 s)"):
        try:
            record(distribution, aot_cache)
            _checksum_of(aot_cache).write_text(sha256_of(aot_cache), encoding="ascii")
        except (OSError, StackError) as error:
            _say_slower(console, str(error).splitlines()[0])
    kept = sorted(aot_cache.parent.glob("*.aot"), key=lambda path: path.stat().st_mtime)
    for old in kept[:-_KEPT_AOT_CACHES]:
        old.unlink(missing_ok=True)
        _checksum_of(old).unlink(missing_ok=True)


def _say_slower(console: Console, reason: str) -> None:
    text = f"the broker starts slower: its AOT cache was not recorded ({reason})"
    console.print(text, style="yellow", highlight=False, markup=False)


def _sweep(work_dir: Path) -> None:
    """Remove what a killed process left; the caller holds the lock."""
    for left in (*work_dir.glob(".*.aot.*"), *work_dir.glob(".format-*")):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
