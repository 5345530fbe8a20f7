"""Every kind of fault by name: of workers, index and network, of the broker, of one of three."""

from collections.abc import Callable

from benchmarks.faults.arena import Arena, Struck
from benchmarks.faults.broker_kinds import BROKER_FAULTS
from benchmarks.faults.cluster_kinds import CLUSTER_FAULTS
from benchmarks.faults.kinds import WORKER_FAULTS

FAULTS: dict[str, Callable[[Arena], Struck]] = WORKER_FAULTS | BROKER_FAULTS | CLUSTER_FAULTS
