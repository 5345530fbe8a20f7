"""How many partitions the windows were written with: with another count they are not found.

A user's window lies where the key of its events lies. Once the count changes, the events of most
users come on other partitions, and every one of them would begin with an empty window. The count
is remembered in the state directory; where that was lost, the windows read back from the changelog
show it by lying where they do not belong. `nextwatch repartition` moves them.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from contract.errors import ContractError
from contract.keys import partition_of

FILE = "partitions"
NUM_LOOKED_AT = 100
"""Windows of a partition: with another count at least half of all users belong elsewhere."""


def remember_count(state_dir: Path, num_partitions: int) -> None:
    """Remember with how many partitions the windows in *state_dir* are written.

    Raises:
        ContractError: they were written with another count.
    """
    file = state_dir / FILE
    known = file.read_text().strip() if file.exists() else ""
    if not known.isdigit():
        file.write_text(f"{num_partitions}\n")
    elif int(known) != num_partitions:
        raise ContractError(
            f"NEXTWATCH_KAFKA_USER_PARTITIONS={num_partitions}, and the windows in {state_dir} were "
            f"written with {known}: set it to {known}; or, once `nextwatch repartition "
            f"{num_partitions}` has moved the windows, delete {state_dir}, which is then filled "
            "from the changelog"
        )


def placement_check(num_partitions: int) -> Callable[[int, Iterable[tuple[str, bytes]]], None]:
    """Return a function that refuses a partition whose windows belong to others."""

    def check(number: int, windows: Iterable[tuple[str, bytes]]) -> None:
        looked_at = [user_id for user_id, _ in islice(windows, NUM_LOOKED_AT)]
        strays = [u for u in looked_at if partition_of(u.encode(), num_partitions) != number]
        if strays:
            raise ContractError(
                f"NEXTWATCH_KAFKA_USER_PARTITIONS={num_partitions}, and {len(strays)} of "
                f"{len(looked_at)} windows of partition {number} belong to another partition then: "
                "set it to the count they were written with, or stop all processes and run "
                f"`nextwatch repartition {num_partitions}`"
            )

    return check
