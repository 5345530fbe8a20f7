"""Every kind of fault, by its name: of workers, index and network, and of the broker."""

from collections.abc import Callable

from benchmarks.faults.arena import Arena, Struck
from benchmarks.faults.broker_kinds import BROKER_FAULTS
from benchmarks.faults.kinds import WORKER_FAULTS

FAULTS: dict[str, Callable[[Arena], Struck]] = WORKER_FAULTS | BROKER_FAULTS
