"""The streams workers of one stack: kill, pause, wipe and restart them.

Whoever dies by accident is started again, as a supervisor would; a fault that wants a worker
dead for a while says so. Each worker has a state directory of its own, kept from run to run.
"""

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from nextwatch.embedded.process.process import Child
from nextwatch.embedded.stack import EmbeddedStack


@dataclass(slots=True)
class TargetWorker:
    """One streams worker, running or not."""

    child: Child
    state_dir: Path
    ready_file: Path

    @property
    def name(self) -> str:
        """Its name, and that of its log."""
        return self.child.name

    @property
    def pid(self) -> int:
        """The process id of its newest run."""
        return self.child.pid

    def is_ready(self) -> bool:
        """Return whether it runs and has partitions."""
        return self.child.is_running and self.ready_file.exists()

    def kill(self) -> None:
        """Kill it (SIGKILL); it is not restarted."""
        self.child.kill()

    def wipe(self) -> None:
        """Remove its state directory."""
        shutil.rmtree(self.state_dir, ignore_errors=True)

    def start(self) -> None:
        """Start it again on the state that it left."""
        self.ready_file.unlink(missing_ok=True)
        self.child.start()

    def pause(self) -> None:
        """Pause it (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Resume it (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def partitions(self) -> list[int]:
        """Return the partitions it owns, by the last assignment in its log."""
        owned: list[int] = []
        for line in self.child.log_path.read_text(errors="replace").splitlines():
            if '"partitions_assigned"' in line:
                fact = json.loads(line)
                owned = [*fact["kept"], *fact["opened"]]
        return sorted(owned)


@dataclass(slots=True)
class FaultActors:
    """All workers of *stack*; *argv* is the command of one, *env* its further settings."""

    stack: EmbeddedStack
    argv: Sequence[str]
    env: Mapping[str, str]
    workers: list[TargetWorker] = field(default_factory=list)
    accidents: Counter[str] = field(default_factory=Counter)

    def add(self) -> TargetWorker:
        """Start one more worker and return it, before it is ready."""
        name = f"worker{len(self.workers) + 1}"
        directory = self.stack.directory / name
        ready_file = directory / "ready"
        env = {
            "NEXTWATCH_STREAMS_STATE_DIR": str(directory / "state"),
            "NEXTWATCH_PROCESS_READY_FILE": str(ready_file),
            **self.env,
        }
        child = self.stack.add_process(name, self.argv, env)
        self.workers.append(TargetWorker(child, directory / "state", ready_file))
        return self.workers[-1]

    def mend(self) -> None:
        """Start every worker again that ended by accident."""
        for worker in self.workers:
            if worker.child.is_wanted and not worker.child.is_running:
                self.accidents[f"exit {worker.child.exit_code}"] += 1
                worker.start()

    def is_whole(self) -> bool:
        """Return whether every wanted worker is ready and each partition has exactly one owner."""
        self.mend()
        wanted = [worker for worker in self.workers if worker.child.is_wanted]
        if not all(worker.is_ready() for worker in wanted):
            return False
        owned = [worker.partitions() for worker in wanted]
        everything = list(range(self.stack.kafka.user_partitions))
        return all(owned) and sorted(chain.from_iterable(owned)) == everything

    def stop(self, within_s: float) -> None:
        """Terminate all workers at the same time."""
        for worker in self.workers:
            worker.child.terminate()
        for worker in self.workers:
            if not worker.child.wait_ended(within_s):
                self.accidents["killed at the end"] += 1
            worker.child.kill()
