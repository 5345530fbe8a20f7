"""The table of all faults by name."""

from benchmarks.faults.arena import Fault
from benchmarks.faults.broker_faults import BROKER_FAULTS
from benchmarks.faults.cluster_faults import CLUSTER_FAULTS
from benchmarks.faults.worker_faults import WORKER_FAULTS

FAULTS: dict[str, Fault] = WORKER_FAULTS | BROKER_FAULTS | CLUSTER_FAULTS
