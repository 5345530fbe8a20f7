"""How many partitions the windows were written with: with another count they are not found.

A user's window lies where the key of its events lies. Once the count changes, the events of most
users come on other partitions, and every one of them would begin with an empty window. The count
is remembered in the state directory; where that was lost, the windows read back from the changelog
show it by lying where they do not belong. `nextwatch repartition` moves them, and leaves tombstones.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import structlog

from contract.errors import ContractError
from contract.keys import partition_of
from streams.changelog import LoggedWindow

log = structlog.get_logger()

FILE = "partitions"
NUM_LOOKED_AT = 100
MOST_STRAYS = 0.25
"""The share of windows that may lie elsewhere: with another count it is a half or more. A few may be
there from when a producer had another partitioner."""

Read = Callable[[Mapping[int, int]], Iterable[LoggedWindow]]


def check_count(state_dir: Path, num_partitions: int) -> None:
    """See that the windows in *state_dir* were written with *num_partitions*, as far as is known.

    Raises:
        ContractError: they were written with another count.
    """
    file = state_dir / FILE
    known = file.read_text().strip() if file.exists() else ""
    if known.isdigit() and int(known) != num_partitions:
        raise ContractError(
            f"NEXTWATCH_KAFKA_USER_PARTITIONS={num_partitions}, and the windows in {state_dir} were "
            f"written with {known}: set it to {known}; or, once `nextwatch repartition "
            f"{num_partitions}` has moved the windows, delete {state_dir}, which is then filled "
            "from the changelog"
        )


def remember_count(state_dir: Path, num_partitions: int) -> None:
    """Remember with how many partitions the windows in *state_dir* are written from now on."""
    (state_dir / FILE).write_text(f"{num_partitions}\n")


def check_windows(num_partitions: int) -> Callable[[int, Iterable[tuple[str, bytes]]], None]:
    """Return a function that refuses a store of a partition when its windows belong to others."""

    def check(number: int, windows: Iterable[tuple[str, bytes]]) -> None:
        keys = [user_id.encode() for user_id, _ in islice(windows, NUM_LOOKED_AT)]
        num_strays = sum(partition_of(key, num_partitions) != number for key in keys)
        if num_strays > MOST_STRAYS * len(keys):
            raise _other_count(f"partition {number}", num_partitions)

    return check


class PlacedReader:
    """Reads a changelog, and takes no window from where it does not belong."""

    def __init__(self, read: Read, num_partitions: int, *, is_judging: bool = True) -> None:
        """Read by *read*; with *is_judging* look through what is read from its beginning first."""
        self._read = read
        self._num_partitions = num_partitions
        self._is_judging = is_judging

    def __call__(self, start: Mapping[int, int]) -> Iterator[LoggedWindow]:
        """Yield every record from *start* on; a window that lies elsewhere as a tombstone.

        Raises:
            ContractError: most windows lie elsewhere, and none was moved. Nothing was yielded then.
        """
        if self._is_judging:
            self._judge({number: 0 for number, offset in start.items() if offset == 0})
        for logged in self._read(start):
            yield logged if self._is_placed(logged) else logged._replace(record=None)

    def _judge(self, start: Mapping[int, int]) -> None:
        strays: set[tuple[int, bytes]] = set()
        num_records = num_strays = 0
        for logged in self._read(start) if start else ():
            num_records += 1
            if not self._is_placed(logged):
                num_strays += 1
                at = logged.partition, logged.key
                (strays.discard if logged.record is None else strays.add)(at)
        if strays and num_strays > MOST_STRAYS * num_records:
            raise _other_count("the changelog", self._num_partitions)
        if strays:
            log.warning("windows_misplaced", windows=len(strays))

    def _is_placed(self, logged: LoggedWindow) -> bool:
        is_seal = logged.seal is not None  # it does not say whose it is, and may lie anywhere
        return is_seal or partition_of(logged.key, self._num_partitions) == logged.partition


def _other_count(where: str, num_partitions: int) -> ContractError:
    return ContractError(
        f"NEXTWATCH_KAFKA_USER_PARTITIONS={num_partitions}, and the windows in {where} were written "
        "with another count: set it to that; or stop all processes and run "
        f"`nextwatch repartition {num_partitions}`"
    )
