"""The embedded stack: broker, index, streams, trainer and index_sync on this machine.

They start in this order: broker and index, then the topics, then the three workers side by
side; they stop the other way round, so that each can finish with what it needs. One rule:
whatever happens, no process outlives `EmbeddedStack.stop`, nor the process that started it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

import structlog

from contract.errors import StackError
from contract.settings import KafkaSettings, load
from nextwatch.embedded import rundir
from nextwatch.embedded.broker import FETCH_MAX_WAIT_MS, SESSION_TIMEOUT_MS, EmbeddedBroker
from nextwatch.embedded.plans import PROCESSES, STORAGE, WORKERS, Plans, inherited
from nextwatch.embedded.ports import LOOPBACK, free_ports
from nextwatch.embedded.process import Child, Plan
from nextwatch.embedded.supervision import Supervisor

log = structlog.get_logger(__name__)

OnStep = Callable[[str], None]
"""Is told once the name of each process that is ready, and ``topics`` when they exist."""

_BOOTSTRAP = "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS"
_WORKER_STOP_S = 8.0  # the trainer writes a last checkpoint
_STORAGE_STOP_S = 3.0
_LOOK_EVERY_S = 0.01


class EmbeddedStack:
    """All processes of the system, or those named, as children of this one.

    *environ* is what the children inherit, less every ``NEXTWATCH_*``; *env* is added for all
    clients, *env_of* for the one process it names. Without a *state_dir* the files live in a
    temporary directory that `stop` removes, unless the stack failed. A *broker_port* of 0 is a
    free one.
    """

    def __init__(  # noqa: PLR0913 - composition by keyword
        self,
        environ: Mapping[str, str],
        *,
        processes: Collection[str] = PROCESSES,
        broker_port: int = 0,
        state_dir: Path | None = None,
        publish_every_s: float = 20.0,
        is_supervised: bool = True,
        env: Mapping[str, str] | None = None,
        env_of: Mapping[str, Mapping[str, str]] | None = None,
        on_step: OnStep = lambda _step: None,
    ) -> None:
        if unknown := sorted(set(processes) - set(PROCESSES)):
            raise ValueError(f"unknown processes: {unknown}; known: {', '.join(PROCESSES)}")
        self._names = frozenset(processes)
        self._is_supervised = is_supervised
        self._env = dict(env or {})
        self._on_step = on_step
        self._broker_port = broker_port
        self._announced: set[str] = set()
        self._directory = rundir.claim(state_dir)
        self._plans = Plans(self._directory, inherited(environ), env_of or {}, publish_every_s)
        self._broker: EmbeddedBroker | None = None
        self._index_port = 0
        self._others: list[Child] = []
        self._guests: list[Child] = []
        self._supervisor: Supervisor | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def env(self) -> dict[str, str]:
        """The settings by which a client of any kind finds this stack."""
        return {
            _BOOTSTRAP: self._broker.bootstrap_servers if self._broker else "",
            "NEXTWATCH_KAFKA_FETCH_MAX_WAIT_MS": str(FETCH_MAX_WAIT_MS),
            "NEXTWATCH_KAFKA_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
            "NEXTWATCH_KAFKA_USER_PARTITIONS": "4",
            "NEXTWATCH_KAFKA_VIDEO_PARTITIONS": "1",
            "NEXTWATCH_QDRANT_URL": self.qdrant_url,
            "NEXTWATCH_PROCESS_BUNDLE_URL": self._directory.part("bundles").as_uri(),
            **self._env,
        }

    @property
    def bootstrap_servers(self) -> str:
        """Where Kafka clients find the broker."""
        return self.env[_BOOTSTRAP]

    @property
    def qdrant_url(self) -> str:
        """Where Qdrant clients find the index."""
        return f"http://{LOOPBACK}:{self._index_port}"

    @property
    def kafka(self) -> KafkaSettings:
        """The connection settings of this stack's broker."""
        return load(KafkaSettings, self.env)

    @property
    def directory(self) -> Path:
        """Where this run keeps its files; ``logs`` in it has one file for each process."""
        return self._directory.path

    @property
    def children(self) -> tuple[Child, ...]:
        """The processes started so far."""
        broker = () if self._broker is None else (self._broker.child,)
        return broker + tuple(self._others)

    def process(self, name: str) -> Child:
        """Return the process *name*, to look at, to kill or to start again.

        Raises:
            StackError: it was not started here.
        """
        by_name = {child.name: child for child in self.children}
        if name not in by_name:
            raise StackError(f"{name!r} was not started here; only: {', '.join(by_name)}")
        return by_name[name]

    def start(self, timeout_s: float = 60.0) -> None:
        """Start everything and wait until all of it is ready.

        Raises:
            StackError: a process ended, or took longer than *timeout_s*; nothing is left behind.
        """
        self.start_storage(timeout_s)
        self.start_workers()
        self.wait_ready(timeout_s)
        self.supervise()

    def start_storage(self, timeout_s: float = 30.0) -> None:
        """Start the broker and the index, and create the topics; returns when they are there."""
        with self._stopped_on_error():
            self._index_port = free_ports(1)[0]
            if "index" in self._names:
                self._launch(self._plans.index(self._index_port))
            if "broker" in self._names:
                self._start_broker()
        self.wait_ready(timeout_s, names={"index"})

    def start_workers(self, names: Collection[str] = WORKERS) -> None:
        """Start those of *names* that belong to this stack; returns before they are ready."""
        with self._stopped_on_error():
            for name in WORKERS:
                if name in self._names and name in names:
                    self._launch(self._plans.worker(name, self.env))

    def wait_ready(self, timeout_s: float = 60.0, *, names: Collection[str] = PROCESSES) -> None:
        """Wait until the started ones of *names* are ready.

        Raises:
            StackError: one ended, or took longer than *timeout_s*; nothing is left behind.
        """
        deadline_s = monotonic() + timeout_s
        with self._stopped_on_error():
            while waiting := self.waiting(names):
                if monotonic() > deadline_s:
                    raise StackError(_lateness(waiting, timeout_s))
                sleep(_LOOK_EVERY_S)

    def waiting(self, names: Collection[str] = PROCESSES) -> list[Child]:
        """Return the started ones of *names* that are not ready yet; the others are announced.

        Raises:
            StackError: one of them ended, and never will be.
        """
        late = []
        for child in self.children:
            if child.name in names and child.name not in self._announced:
                if child.is_ready():
                    child.be_nice()
                    self._announce(child.name)
                elif not child.is_running:
                    raise StackError(child.obituary())
                else:
                    late.append(child)
        return late

    def add_guest(
        self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None
    ) -> Child:
        """Start a program of the caller's, with settings by which it finds this stack, and *env*.

        It is never restarted, and `stop` ends it before all others.
        """
        env = {**self._plans.inherited, **self.env, **(env or {})}
        guest = Child(Plan(name, tuple(argv), env, self._plans.log_path(name)))
        self._guests.append(guest)
        guest.start()
        return guest

    def supervise(self) -> None:
        """From now on start again what ends by accident, unless this stack is unsupervised."""
        if self._is_supervised and self._supervisor is None:
            self._supervisor = Supervisor(self.children, vital=frozenset({"broker"}))
            self._supervisor.start()

    def check(self) -> None:
        """Raise what ended the stack, if something did.

        Raises:
            StackError: the broker died, or a process does not stay up.
        """
        if self.failure:
            raise StackError(self.failure)

    @property
    def failure(self) -> str:
        """What ended the stack; empty while it is well."""
        return self._supervisor.failure if self._supervisor is not None else ""

    @property
    def num_restarts(self) -> int:
        """How many accidents were mended."""
        return self._supervisor.num_restarts if self._supervisor is not None else 0

    def stop(self, *, is_kept: bool = False) -> None:
        """Stop everything; what does not go by itself is killed. A second call does nothing.

        With *is_kept* a temporary directory stays, for the logs in it.
        """
        try:
            if self._supervisor is not None:
                self._supervisor.stop()
            self._stop_children(self._guests, _WORKER_STOP_S)
            self._stop_children(self._named(WORKERS), _WORKER_STOP_S)
            if self._broker is not None:
                self._broker.child.kill()  # in memory only, nothing to save; SIGTERM took it 3 s
            self._stop_children(self._named(STORAGE), _STORAGE_STOP_S)
        finally:
            for child in (*self._guests, *self.children):
                child.kill()
            self._directory.release(is_kept=is_kept or bool(self.failure))

    def _start_broker(self) -> None:
        from nextwatch.topics import reconcile  # noqa: PLC0415 - it loads librdkafka

        env, log_path = self._plans.inherited, self._plans.log_path("broker")
        self._broker = EmbeddedBroker(env=env, log_path=log_path, port=self._broker_port)
        self._broker.start()
        self._announce("broker")
        reconcile(self.kafka)
        self._announce("topics")

    def _announce(self, step: str) -> None:
        if step not in self._announced:
            self._announced.add(step)
            self._on_step(step)

    def _launch(self, plan: Plan) -> None:
        self._others.append(Child(plan))
        self._others[-1].start(is_urgent=True)

    def _named(self, names: Collection[str]) -> list[Child]:
        return [child for child in self.children if child.name in names]

    def _stop_children(self, leaving: Sequence[Child], timeout_s: float) -> None:
        """Ask all of them at once, then wait for each, at most *timeout_s* altogether."""
        deadline_s = monotonic() + timeout_s
        for child in leaving:
            child.terminate()
        for child in leaving:
            if not child.wait_ended(max(0.0, deadline_s - monotonic())):
                log.warning("process_killed", process=child.name, after_s=timeout_s)
            child.kill()

    @contextmanager
    def _stopped_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.stop(is_kept=isinstance(error, StackError))
            raise


def _lateness(waiting: Sequence[Child], timeout_s: float) -> str:
    late = "\n".join(f"{child.name}: see {child.log_path}" for child in waiting)
    return f"not ready after {timeout_s:.0f} s:\n{late}\n{waiting[0].log_tail()}"
