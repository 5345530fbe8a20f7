"""Let several processes, started by ``torchrun``, train one model (torch.distributed, gloo).

Partitions of the topics keyed by user are divided among the ranks: rank *r* of *n* reads partition
*p* if ``p % n == r``. Rank 0 reads all topics that everybody has to know.

Collective calls must be made by all ranks in the same order. So a loop asks `any` and `all`, which
give every rank the same answer, before it goes on or ends.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed

from contract.errors import ContractError
from contract.kafka.records import Position
from contract.wire.topics import IMPRESSIONS, RANKING_LOG, SEARCH_EVENTS, WATCH_EVENTS

DIVIDED = frozenset(topic.name for topic in (WATCH_EVENTS, SEARCH_EVENTS, IMPRESSIONS, RANKING_LOG))
"""The topics whose partitions are divided."""
TIMEOUT_S = 120.0
"""A rank that has not answered for so long is gone: the others end, and torchrun starts all."""


@dataclass(frozen=True, slots=True)
class Group:
    """This process is *rank* of *size*; a trainer of its own by default."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this rank publishes."""
        return self.rank == 0

    def owns(self, at: Position) -> bool:
        """Return whether this rank reads the partition *at*."""
        if at.topic in DIVIDED:
            return at.partition % self.size == self.rank
        return self.is_first

    def any(self, flag: bool) -> bool:  # noqa: FBT001 - as the builtin
        """Return whether *flag* is true in any rank."""
        return flag if self.size == 1 else any(map(bool, self.gather(bytes([flag][:flag]))))

    def all(self, flag: bool) -> bool:  # noqa: FBT001 - as the builtin
        """Return whether *flag* is true in all ranks."""
        return flag if self.size == 1 else all(map(bool, self.gather(bytes([flag][:flag]))))

    def gather(self, data: bytes) -> list[bytes]:
        """Return the *data* of each rank."""
        if self.size == 1:
            return [data]
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        torch.distributed.all_gather(sizes, torch.tensor([len(data)]))
        most = max(int(size) for size in sizes)
        if not most:
            return [b""] * self.size
        padded = torch.zeros(most, dtype=torch.uint8)
        padded[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else 0
        found = [torch.zeros(most, dtype=torch.uint8) for _ in range(self.size)]
        torch.distributed.all_gather(found, padded)
        return [one[: int(size)].numpy().tobytes() for one, size in zip(found, sizes, strict=True)]

    def close(self) -> None:
        """Leave the group."""
        if self.size > 1:
            torch.distributed.destroy_process_group()


def joined(environ: Mapping[str, str] = os.environ) -> Group:
    """Return the group that torchrun has started this process in; without it, one alone.

    Raises:
        ContractError: the other ranks did not come.
    """
    size = int(environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Group()
    timeout = timedelta(seconds=TIMEOUT_S)
    try:
        met = torch.distributed.rendezvous("env://", timeout=timeout)  # type: ignore[attr-defined]
        store, rank, size = next(iter(met))
        # torchrun keeps its store over restarts: without a prefix a rank may read where one that
        # was killed has listened, and be refused there
        attempt = environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        torch.distributed.init_process_group(
            "gloo",
            store=torch.distributed.PrefixStore(  # type: ignore[attr-defined]
                f"attempt-{attempt}", store
            ),
            rank=rank,
            world_size=size,
            timeout=timeout,
        )
    except (RuntimeError, ValueError) as error:
        raise ContractError(
            f"the {size} trainers that torchrun started do not reach each other: {error}"
        ) from error
    return Group(torch.distributed.get_rank(), size)
