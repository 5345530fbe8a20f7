"""Check that the windows were written with the configured number of partitions.

A user's window lies where the key of its events lies. Once the count changes, the events of most
users come on other partitions, and every one of them would begin with an empty window. The count is
remembered in the state directory; where that was lost, the windows read back from the changelog
show it by lying where they do not belong. So do those of a producer that placed keys by another
hash. `nextwatch repartition` moves them, and leaves tombstones.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import structlog

from contract.errors import ContractError
from contract.process.atomic_write import replace_file
from contract.wire.keys import partition_of
from streams.state.changelog import LoggedWindow

log = structlog.get_logger()

FILE = "partitions"
NUM_LOOKED_AT = 100
MOST_STRAYS = 0.25
"""The share of windows that may lie elsewhere: with another count it is a half or more. A few may
be there from when a producer had another partitioner."""
LEAST_STRAYS = 5
"""Fewer say nothing: of two windows one may be such a stray."""

MOST_KEPT_BYTES = 32 * 1024 * 1024
"""So much of a changelog is kept while it is judged; a larger one is read once more afterwards."""

_RECORD_BYTES = 200  # what Python needs for a record beside its key and its value

Read = Callable[[Mapping[int, int]], Iterable[LoggedWindow]]


def check_count(state_dir: Path, num_partitions: int) -> None:
    """Check that the windows in *state_dir* were written with *num_partitions*, as far as is known.

    Raises:
        ContractError: they were written with another count.
    """
    known = _remembered(state_dir)
    if known.isdigit() and int(known) != num_partitions:
        raise ContractError(
            f"NEXTWATCH_KAFKA_USER_PARTITIONS={num_partitions}, and the windows in {state_dir} were "
            f"written with {known}: set it to {known}; or, once `nextwatch repartition "
            f"{num_partitions}` has moved the windows, delete {state_dir}, which is then filled "
            "from the changelog"
        )


def remember_count(state_dir: Path, num_partitions: int) -> None:
    """Remember with how many partitions the windows in *state_dir* are written from now on."""
    if _remembered(state_dir) != str(num_partitions):
        replace_file(state_dir / FILE, f"{num_partitions}\n".encode())


def _remembered(state_dir: Path) -> str:
    file = state_dir / FILE
    return file.read_text(errors="replace").strip() if file.exists() else ""


def check_windows(
    num_partitions: int, state_dir: Path
) -> Callable[[int, Iterable[tuple[str, bytes]]], None]:
    """Return a function that rejects a store in *state_dir* whose windows belong elsewhere."""

    def check(number: int, windows: Iterable[tuple[str, bytes]]) -> None:
        keys = [user_id.encode() for user_id, _ in islice(windows, NUM_LOOKED_AT)]
        num_strays = sum(partition_of(key, num_partitions) != number for key in keys)
        if _are_most(num_strays, len(keys)):
            where = f"partition {number} of {state_dir}"
            done = f"; if it was run already, delete {state_dir}"
            raise ContractError(_misplaced(where, num_partitions) + done)

    return check


class PlacedReader:
    """Reads a changelog, and leaves out windows in partitions where they do not belong."""

    def __init__(self, read: Read, num_partitions: int, *, is_judging: bool = True) -> None:
        """Read by *read*; with *is_judging* look through what is read from its beginning first."""
        self._read = read
        self._num_partitions = num_partitions
        self._is_judging = is_judging
        self.num_read = 0
        """How many records were read so far, those too that are only looked through."""

    def __call__(self, start: Mapping[int, int]) -> Iterator[LoggedWindow]:
        """Yield every record from *start* on; a window that lies elsewhere as a tombstone.

        Raises:
            ContractError: most windows lie elsewhere, and none was moved. Nothing was yielded then.
        """
        whole = {number: 0 for number, offset in start.items() if offset == 0}
        kept = self._judge(whole) if self._is_judging else None
        if kept is not None:
            yield from map(self._placed, kept)
            start = {number: offset for number, offset in start.items() if number not in whole}
        for logged in self._counted(start):
            yield self._placed(logged)

    def _judge(self, start: Mapping[int, int]) -> list[LoggedWindow] | None:
        """Judge the partitions in *start*; return their records, None if these are too many."""
        strays: set[tuple[int, bytes]] = set()
        kept: list[LoggedWindow] | None = []
        num_records = num_strays = num_bytes = 0
        for logged in self._counted(start):
            num_records += 1
            num_bytes += len(logged.key) + len(logged.record or b"") + _RECORD_BYTES
            if num_bytes > MOST_KEPT_BYTES:
                kept = None
            if kept is not None:
                kept.append(logged)
            if not self._is_placed(logged):
                num_strays += 1
                at = logged.partition, logged.key
                (strays.discard if logged.record is None else strays.add)(at)
        if strays and _are_most(num_strays, num_records):
            raise ContractError(_misplaced("the changelog", self._num_partitions))
        if strays:
            log.warning("windows_misplaced", windows=len(strays))
        return kept

    def _counted(self, start: Mapping[int, int]) -> Iterator[LoggedWindow]:
        for logged in self._read(start) if start else ():
            self.num_read += 1
            yield logged

    def _placed(self, logged: LoggedWindow) -> LoggedWindow:
        return logged if self._is_placed(logged) else logged._replace(record=None)

    def _is_placed(self, logged: LoggedWindow) -> bool:
        is_marker = logged.marker is not None  # it does not say whose it is, and may lie anywhere
        return is_marker or partition_of(logged.key, self._num_partitions) == logged.partition


def _are_most(num_strays: int, num_windows: int) -> bool:
    return num_strays >= LEAST_STRAYS and num_strays > MOST_STRAYS * num_windows


def _misplaced(where: str, num_partitions: int) -> str:
    return (
        f"NEXTWATCH_KAFKA_USER_PARTITIONS={num_partitions}, and the windows in {where} belong on "
        "other partitions: they were written with another count: set it to that; or a producer "
        "places keys by another hash than murmur2: set it right. Where no count fits, stop all "
        f"processes, run `nextwatch repartition {num_partitions}`, and delete the state directories"
    )
