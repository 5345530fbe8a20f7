"""Start, watch and stop one child process of the embedded stack.

One rule: a child never outlives its parent. It is stopped with SIGTERM and, after a bound,
with SIGKILL, together with whatever it started itself; and should the parent die without a
word, the kernel kills the child (`nextwatch.embedded.process.die_with_parent`).
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from contract.errors import StackError
from nextwatch.embedded.process.ports import is_free, is_listening, ports_of

_DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")
_POLL_S = 0.01
_MOST_NICE = 19
_TAIL_BYTES = 2_000

# The kernel's parent-death signal watches the *thread* that started the child. This one lives
# as long as the interpreter, so a child may be started from a thread that ends sooner.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


def launcher(niceness: int) -> tuple[str, ...]:
    """Return the command that runs the one after it as a child that dies with this process."""
    program = ("-I", "-S", str(_DIE_WITH_PARENT))
    return (sys.executable, *program, str(os.getpid()), str(niceness))


@dataclass(frozen=True, slots=True)
class Plan:
    """How to start a child: *env* is its whole environment, *niceness* is added to ours.

    It counts as ready once it runs, wrote its *ready_file* if it has one, and listens itself on
    all of its *ports*: whatever else answers there is not this child.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log_path: Path
    ports: tuple[int, ...] = ()
    ready_file: Path | None = None
    niceness: int = 0


@dataclass(slots=True)
class Child:
    """A child process, running or not, that is started by its *plan*."""

    plan: Plan
    started_s: float = 0.0
    is_wanted: bool = False
    _popen: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    _is_swept: bool = field(default=False, repr=False)

    @property
    def name(self) -> str:
        """What the child is called in logs and messages."""
        return self.plan.name

    @property
    def log_path(self) -> Path:
        """The file with its output to stdout and stderr."""
        return self.plan.log_path

    @property
    def pid(self) -> int:
        """The process id of the newest run.

        Raises:
            StackError: it was never started.
        """
        if self._popen is None:
            raise StackError(f"{self.name} was not started")
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """How the newest run ended (minus the signal if one killed it); None while it runs."""
        return None if self._popen is None else self._popen.poll()

    @property
    def is_running(self) -> bool:
        """Whether the process exists right now."""
        return self._popen is not None and self._popen.poll() is None

    def start(self, *, is_urgent: bool = False) -> None:
        """Start the process; a second call while it runs changes nothing.

        With *is_urgent* it does not yield to others before `be_nice`.
        """
        if self.is_running:
            return
        self._sweep()
        if self.plan.ready_file is not None:
            self.plan.ready_file.unlink(missing_ok=True)
        self.plan.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.is_wanted = True
        _SPAWNER.submit(self._spawn, 0 if is_urgent else self.plan.niceness).result()

    def _spawn(self, niceness: int) -> None:
        plan = self.plan
        with plan.log_path.open("ab") as log:
            self.started_s, self._is_swept = monotonic(), False
            self._popen = subprocess.Popen(  # noqa: S603 - our own programs
                launcher(niceness) + plan.argv,
                env=dict(plan.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def be_nice(self) -> None:
        """Set the niceness of the plan, if the process was started as urgent."""
        niceness = min(_MOST_NICE, os.nice(0) + self.plan.niceness)
        tasks = Path(f"/proc/{self.pid}/task")  # Linux keeps a niceness for each thread
        with suppress(ProcessLookupError, FileNotFoundError):
            threads = [int(task.name) for task in tasks.iterdir()] if tasks.exists() else [self.pid]
            for thread in threads:
                if os.getpriority(os.PRIO_PROCESS, thread) < niceness:
                    os.setpriority(os.PRIO_PROCESS, thread, niceness)
        with suppress(OSError):  # Linux weighs sessions by this, and only within one by the threads
            Path(f"/proc/{self.pid}/autogroup").write_text(f"{niceness}")

    def is_ready(self) -> bool:
        """Return whether the process runs and is ready."""
        has_said_so = self.plan.ready_file is None or self.plan.ready_file.exists()
        return self.is_running and has_said_so and self._listens()

    def _listens(self) -> bool:
        """Return whether it listens on its ports; asks for the owner only where somebody does."""
        return all(is_listening(port) and self._owns(port) for port in self.plan.ports)

    @property
    def lost_port(self) -> int | None:
        """The first of its ports that another process has taken.

        While it runs only the first one is looked at: who loses another one ends by itself.
        """
        if not self.is_running:
            return next((port for port in self.plan.ports if not is_free(port)), None)
        first = self.plan.ports[:1]
        return next((port for port in first if is_listening(port) and not self._owns(port)), None)

    def _owns(self, port: int) -> bool:
        return port in ports_of(self.pid)

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Wait until the process is ready.

        Raises:
            StackError: it ended, or it took longer than *timeout_s*; with the end of its log.
        """
        deadline_s = monotonic() + timeout_s
        while not self.is_ready():
            if not self.is_running or self.lost_port:
                self.kill()
                raise StackError(self.exit_report())
            if monotonic() > deadline_s:
                late = f"{self.name} was not ready after {timeout_s:.0f} s"
                raise StackError(f"{late}; see {self.log_path}\n{self.log_tail()}")
            sleep(_POLL_S)

    def wait_ended(self, timeout_s: float) -> bool:
        """Return whether the process ended within *timeout_s*."""
        if self._popen is None:
            return True
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def terminate(self) -> None:
        """Ask the process to stop (SIGTERM), without waiting; it will not be restarted."""
        self.is_wanted = False
        if self.is_running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self, *, is_wanted: bool = False) -> None:
        """Kill the process and its children (SIGKILL), and wait until it has ended.

        With *is_wanted* a supervisor takes this for an accident and starts it again.
        """
        self.is_wanted = is_wanted
        self._sweep()

    def _sweep(self) -> None:
        """Leave nothing of the newest run, once: later its group id may be somebody else's."""
        if self._popen is None or self._is_swept:
            return
        self._is_swept = True
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop the process: SIGTERM, then SIGKILL to its group after *timeout_s*."""
        self.terminate()
        self.wait_ended(timeout_s)
        self.kill()

    def ending(self) -> str:
        """Return by which signal or with which exit code it ended."""
        code = self.exit_code
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    def exit_report(self) -> str:
        """Return one sentence on how it ended, and the last lines of its log."""
        ended = f"{self.name} ended ({self.ending()})"
        if port := self.lost_port:
            ended += f", port {port} was taken meanwhile by another process"
        return f"{ended}; see {self.log_path}\n{self.log_tail()}".rstrip()

    def log_tail(self) -> str:
        """Return the end of its log, at most some two thousand bytes of whole lines."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return text if size <= _TAIL_BYTES else text.partition("\n")[2]
