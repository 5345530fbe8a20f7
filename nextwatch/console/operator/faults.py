"""Kill a process of the embedded stack, and time its recovery.

The supervisor of the stack takes the kill for an accident. Recovered is a process that is ready
again; of streams also the first recommendation after that is told, by `note_answer`.
"""

from collections.abc import Sequence
from threading import Lock, Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING

import msgspec

from contract.errors import StackError
from contract.process.clock import Clock
from nextwatch.embedded.process.plans import WORKERS

if TYPE_CHECKING:  # a console beside a cluster has no stack, nor the libraries for one
    from nextwatch.embedded.process.process import Child
    from nextwatch.embedded.stack import EmbeddedStack

KILLABLE = (*WORKERS, "index")
MOST = 20
_LOOK_EVERY_S = 0.02
_PATIENCE_S = 120.0


class ProcessState(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the stack."""

    name: str
    pid: int
    is_ready: bool
    restarts: int
    is_killable: bool
    metrics_url: str = ""


class Fault(msgspec.Struct, kw_only=True):
    """One kill; durations are from the kill, None while they are not over."""

    process: str
    killed_ms: int
    ready_after_ms: int | None = None
    answered_after_ms: int | None = None


class Faults:
    """The processes of *stack*, and the kills of this run."""

    def __init__(self, stack: "EmbeddedStack", clock: Clock) -> None:
        self._stack = stack
        self._clock = clock
        self._faults: list[Fault] = []
        self._recovering: set[str] = set()
        self._lock = Lock()
        self._addresses: dict[int, str] = {}

    def processes(self) -> list[ProcessState]:
        """Return the processes of the stack."""
        children, restarts = self._stack.children, self._stack.restarts
        self._look_for_addresses(children)
        return [
            ProcessState(
                name=child.name,
                pid=child.pid,
                is_ready=_says_ready(child),
                restarts=restarts.get(child.name, 0),
                is_killable=child.name in KILLABLE,
                metrics_url=self._addresses.get(child.pid, ""),
            )
            for child in children
        ]

    def all(self) -> Sequence[Fault]:
        """Return the newest kills, the latest first."""
        with self._lock:
            return [msgspec.structs.replace(fault) for fault in reversed(self._faults)]

    def kill(self, name: str) -> bool:
        """Kill the process *name* (SIGKILL); return False if it is being restarted already.

        A thread times the recovery: one for each process at most, however many kills are asked for.

        Raises:
            StackError: it is none that may be killed.
        """
        if name not in KILLABLE:
            raise StackError(f"{name!r} may not be killed here; only: {', '.join(KILLABLE)}")
        child = self._stack.process(name)
        with self._lock:
            if name in self._recovering or not child.is_running:
                return False
            self._recovering.add(name)
            began_s, before = monotonic(), child.pid
            fault = Fault(process=name, killed_ms=self._clock())
            self._faults = [*self._faults[1 - MOST :], fault]

        def time_recovery() -> None:
            try:
                if _is_back(child, before):
                    fault.ready_after_ms = round((monotonic() - began_s) * 1_000)
            finally:
                self._recovering.discard(name)

        child.kill(is_wanted=True)
        Thread(target=time_recovery, name=f"console-recovery-{name}", daemon=True).start()
        return True

    def _look_for_addresses(self, children: "Sequence[Child]") -> None:
        """Note where ready workers serve metrics, once for each: to find that out costs time."""
        ready = {c.pid: c.name for c in children if c.name in WORKERS and _says_ready(c)}
        if not ready.keys() <= self._addresses.keys():
            urls = self._stack.status_urls
            self._addresses = {
                pid: f"{urls[name]}/metrics" for pid, name in ready.items() if name in urls
            }

    def note_answer(self, now_ms: int) -> None:
        """Note that a recommendation came."""
        for fault in self._faults:
            if fault.process == "streams" and fault.answered_after_ms is None:
                passed_ms = now_ms - fault.killed_ms
                if fault.ready_after_ms is not None and passed_ms >= fault.ready_after_ms:
                    fault.answered_after_ms = passed_ms


def _says_ready(child: "Child") -> bool:
    """Return whether it runs and has said that it is ready; who owns its ports is not asked.

    That would read the connections of the whole machine, once a second.
    """
    ready_file = child.plan.ready_file
    return child.is_running and (ready_file is None or ready_file.exists())


def _is_back(child: "Child", pid_before: int) -> bool:
    deadline_s = monotonic() + _PATIENCE_S
    while monotonic() < deadline_s:
        if child.pid != pid_before and child.is_ready():
            return True
        sleep(_LOOK_EVERY_S)
    return False
