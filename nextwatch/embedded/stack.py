"""Run broker, index, streams, trainer and index_sync on this machine.

All processes are started at once; the workers load their code and wait at a gate until broker,
index and topics are there (`nextwatch.embedded.process.gate`). They stop the other way round, so
that each can finish with what it needs. A port is chosen before it is used, so another process may
take it meanwhile: broker or index then move to another one, and the workers are started anew.
Whatever happens, no process outlives `EmbeddedStack.stop`, nor the process that started it.
"""

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

import structlog

from contract.errors import StackError
from contract.process.settings import KafkaSettings, load
from nextwatch.embedded import rundir, tansu
from nextwatch.embedded.broker import (
    ATTEMPTS,
    HOME_VARIABLE,
    REMEDY,
    BrokerChoice,
    EmbeddedBroker,
    default_engine,
)
from nextwatch.embedded.kafka import node
from nextwatch.embedded.process.plans import PROCESSES, STORAGE, WORKERS, Plans, inherited
from nextwatch.embedded.process.ports import LOOPBACK, free_ports, ports_of
from nextwatch.embedded.process.process import Child, Plan
from nextwatch.embedded.process.supervision import Supervisor
from nextwatch.embedded.space import SpaceWatch, check_room, shortage

log = structlog.get_logger(__name__)

OnStep = Callable[[str], None]
"""Is told once the name of each process that is ready, and ``topics`` when they exist."""

_BOOTSTRAP = "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS"
_QDRANT_URL = "NEXTWATCH_QDRANT_URL"
_CODEC = "NEXTWATCH_KAFKA_COMPRESSION_TYPE"
_WORKER_STOP_S = 1.0  # all of them recover from SIGKILL: what stops sooner only saves them work
_WORKER_STOP_WITHOUT_STATE_S = 0.5
_STORAGE_STOP_S = 1.0
_LOOK_EVERY_S = 0.01


class EmbeddedStack:
    """All processes of the system, or those named, as children of this one.

    *environ* is what the children inherit, less every ``NEXTWATCH_*``; *env* is added for all
    clients, *env_of* for the one process it names. Without a *state_dir* the files live in a
    temporary directory that `stop` removes, unless the stack failed; with one, the next stack
    in it goes on where this one ended, if its broker keeps records.

    The *broker* is the pinned Kafka on a free port unless another choice is given. Where it names
    a Kafka that runs, none is started, and the connection settings in *environ* hold.
    """

    def __init__(  # noqa: PLR0913 - composition by keyword
        self,
        environ: Mapping[str, str],
        *,
        processes: Collection[str] = PROCESSES,
        state_dir: Path | None = None,
        publish_every_s: float = 20.0,
        is_supervised: bool = True,
        env: Mapping[str, str] | None = None,
        env_of: Mapping[str, Mapping[str, str]] | None = None,
        on_step: OnStep = lambda _step: None,
        broker: BrokerChoice | None = None,
    ) -> None:
        if unknown := sorted(set(processes) - set(PROCESSES)):
            raise ValueError(f"unknown processes: {unknown}; known: {', '.join(PROCESSES)}")
        names = frozenset(processes)
        if broker is None and "broker" in names:
            broker = BrokerChoice(default_engine(environ))
        self._choice = broker
        self._names = names if broker is None or broker.engine else names - {"broker"}
        is_durable = broker is not None and broker.is_durable
        if is_durable:
            node.check_path((state_dir or Path(tempfile.gettempdir())).resolve())
        check_room(state_dir, self._names)
        self._is_supervised = is_supervised
        self._env = dict(env or {})
        self._on_step = on_step
        self._announced: set[str] = set()
        self._directory = rundir.claim(state_dir, is_durable=is_durable)
        self._space = SpaceWatch(self.directory, self._names)
        self._plans = Plans(self._directory, inherited(environ), env_of or {}, publish_every_s)
        self._broker_env = _client_env(broker, environ)
        self._broker: EmbeddedBroker | None = None
        self._index_port = 0
        self._num_moves = 0
        self._others: list[Child] = []
        self._added: list[Child] = []
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
            "NEXTWATCH_KAFKA_USER_PARTITIONS": "4",
            "NEXTWATCH_KAFKA_VIDEO_PARTITIONS": "1",
            _BOOTSTRAP: self._broker.bootstrap_servers if self._broker else "",
            **self._broker_env,
            _QDRANT_URL: self.qdrant_url,
            "NEXTWATCH_PROCESS_BUNDLE_URL": self._directory.part("bundles").as_uri(),
            **self._env,
        }

    @property
    def broker_name(self) -> str:
        """The name of the broker, for people."""
        return self._choice.name if self._choice is not None else self.bootstrap_servers

    @property
    def has_topics(self) -> bool:
        """Whether the topics were created."""
        return "topics" in self._announced

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

    @property
    def status_urls(self) -> dict[str, str]:
        """Where each running worker serves `/metrics`, `/healthz` and `/readyz`, by its name.

        A worker takes the first free port of its own, and listens on no other.
        """
        running = [child for child in self.children if child.is_running]
        names = {child.name: ports_of(child.pid) for child in running if child.name in WORKERS}
        return {name: f"http://{LOOPBACK}:{min(ports)}" for name, ports in names.items() if ports}

    def process(self, name: str) -> Child:
        """Return the process *name*.

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
        self.start_storage()
        self.start_workers()
        self.wait_ready(timeout_s)
        self.supervise()

    def launch(self) -> None:
        """Start every process; the workers load their code and wait at their gates."""
        with self._stopped_on_error():
            self._index_port = free_ports(1)[0]
            if "broker" in self._names:
                self._broker = self._new_broker()
                self._broker.child.start(is_urgent=True)
            if "index" in self._names:
                self._launch(self._plans.index(self._index_port))
            for name in WORKERS:
                if name in self._names:
                    self._plans.gate(name).unlink(missing_ok=True)
                    self._launch(self._plans.worker(name, self.env))

    def await_storage(self, timeout_s: float = 60.0) -> None:
        """Wait for broker and index, and create the topics.

        Raises:
            StackError: broker or index ended, or took longer than *timeout_s*.
        """
        with self._stopped_on_error():
            self.wait_ready(timeout_s, names={"broker"})
            if self._choice is not None:
                from nextwatch.topics.topics import reconcile  # noqa: PLC0415 - it loads librdkafka

                reconcile(self.kafka)
                self._announce("topics")
        self.wait_ready(timeout_s, names={"index"})

    def start_storage(self) -> None:
        """Start everything; wait for broker, topics and index. The workers wait at their gates."""
        self.launch()
        self.await_storage()

    def start_workers(self, names: Collection[str] = WORKERS) -> None:
        """Open the gates of those *names* that belong to this stack, without waiting for them."""
        with self._stopped_on_error():
            for name in WORKERS:
                if name in self._names and name in names:
                    self._plans.gate(name).touch()

    def wait_ready(self, timeout_s: float = 60.0, *, names: Collection[str] = PROCESSES) -> None:
        """Wait until the started ones of *names* are ready.

        Raises:
            StackError: one ended, or took longer than *timeout_s*; nothing is left behind.
        """
        deadline_s, num_moves = monotonic() + timeout_s, self._num_moves
        with self._stopped_on_error():
            while waiting := self.waiting(names):
                if self._num_moves > num_moves:
                    deadline_s, num_moves = monotonic() + timeout_s, self._num_moves
                if monotonic() > deadline_s:
                    raise StackError(self._lateness(waiting, timeout_s))
                sleep(_LOOK_EVERY_S)

    def waiting(self, names: Collection[str] = PROCESSES) -> list[Child]:
        """Return the started ones of *names* that are not ready yet; the others are announced.

        Raises:
            StackError: one of them ended, and never will be. Where it lost its port to another
                process it is started on a free one instead, unless the port was asked for.
        """
        late = []
        for child in self.children:
            if child.name in names and child.name not in self._announced:
                if child.is_ready():
                    child.be_nice()
                    self._announce(child.name)
                elif not child.is_running or child.lost_port:
                    late.append(self._moved(child))
                else:
                    late.append(child)
        return late

    def add_process(
        self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None
    ) -> Child:
        """Start a program of the caller, with the settings of this stack and *env*.

        It is never restarted, and `stop` ends it with the workers.
        """
        env = {**self._plans.inherited, **self.env, **(env or {})}
        added = Child(Plan(name, tuple(argv), env, self._plans.log_path(name)))
        self._added.append(added)
        added.start()
        return added

    def supervise(self) -> None:
        """Restart processes that end unexpectedly from now on, unless the stack is unsupervised."""
        if self._is_supervised and self._supervisor is None:
            forgets = self._broker is not None and not self._broker.engine.is_durable
            vital = frozenset({"broker"} if forgets else ())
            self._supervisor = Supervisor(self.children, vital=vital)
            self._supervisor.start()

    def check(self) -> None:
        """Raise the failure of the stack, if there is one; warn of a full disk.

        Raises:
            StackError: the broker died, or a process does not stay up.
        """
        if self.failure:
            raise StackError(self.failure)
        self._space.look()

    @property
    def failure(self) -> str:
        """The failure of the stack; empty while there is none."""
        return self._supervisor.failure if self._supervisor is not None else ""

    @property
    def shortage(self) -> str:
        """What the disk has no room for; empty while there is room."""
        return shortage(self.directory, self._names)

    @property
    def restarts(self) -> dict[str, int]:
        """The number of restarts of each process that ended unexpectedly."""
        return dict(self._supervisor.restarts) if self._supervisor is not None else {}

    def stop(self, *, is_kept: bool = False, with_state: bool = False) -> None:
        """Stop all processes, and kill those that do not stop. A second call does nothing.

        With *is_kept* a temporary directory stays for the logs in it, *with_state* as a whole.
        """
        try:
            if self._supervisor is not None:
                self._supervisor.stop()
            leaving = [*self._added, *self._named(WORKERS)]
            if self._directory.is_temporary:  # nothing to save
                self._stop_children(leaving, _WORKER_STOP_WITHOUT_STATE_S)
            else:
                self._stop_children(leaving, _WORKER_STOP_S)
                self._stop_children(self._named(STORAGE), _STORAGE_STOP_S)
        finally:
            self.kill()
            is_kept = is_kept or bool(self.failure)
            self._directory.release(is_kept=is_kept, with_state=with_state)

    def kill(self) -> None:
        """Kill all processes at once, so that `stop` need not wait."""
        if self._supervisor is not None:
            self._supervisor.stop()
        for child in (*self._added, *self.children):
            child.kill()

    def _new_broker(self) -> EmbeddedBroker:
        return EmbeddedBroker(
            env=self._plans.inherited,
            log_path=self._plans.log_path("broker"),
            engine=self._choice.engine if self._choice else None,
            data_dir=self._directory.part("broker"),
            port=self._choice.port if self._choice else 0,
        )

    def _moved(self, child: Child) -> Child:
        """Start *child*, which ended or lost its port, on another one, and tell its clients.

        Raises:
            StackError: it ended for another reason, or may not have another port.
        """
        port = child.lost_port
        choice = self._choice
        if choice is not None and choice.is_fixed and port == choice.port:
            raise StackError(
                f"port {port} was taken meanwhile: name another by --port, or leave it out"
            )
        if port is None or self._num_moves == ATTEMPTS:
            is_broker = child.name == "broker"
            child.kill()
            raise StackError(child.exit_report() + (f"\n{REMEDY}" if is_broker else ""))
        self._num_moves += 1
        before = self.env
        log.warning("port_lost", process=child.name, port=port)
        child.kill()
        if child.name == "broker":
            assert self._broker is not None
            self._broker.start_elsewhere()
        else:
            self._index_port = free_ports(1)[0]
            child.plan = self._plans.index(self._index_port)
            child.start(is_urgent=True)
        self._restart_clients(before)
        return self.process(child.name)

    def _restart_clients(self, before: Mapping[str, str]) -> None:
        """Start what was told another address *before* once more, with the present one."""
        env = self.env
        for client in (*self._named(WORKERS), *self._added):
            told = client.plan.env
            new = {name: env[name] for name, old in before.items() if told.get(name) == old}
            if client.is_running and new.items() - told.items():
                client.kill()
                client.plan = replace(client.plan, env={**told, **new})
                client.start(is_urgent=True)

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
                log.info("process_killed", process=child.name, after_s=timeout_s)
            child.kill()

    def _lateness(self, waiting: Sequence[Child], timeout_s: float) -> str:
        late = "\n".join(f"{child.name}: see {child.log_path}" for child in waiting)
        cause = f" ({reason})" if (reason := self.shortage) else ""
        return f"not ready after {timeout_s:.0f} s{cause}:\n{late}\n{waiting[0].log_tail()}"

    @contextmanager
    def _stopped_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.stop(is_kept=isinstance(error, StackError))
            raise


def unused_settings(environ: Mapping[str, str], *, is_kafka_given: bool) -> list[str]:
    """Return the settings in *environ* that no process of an embedded stack receives.

    The connection settings are used only where a Kafka that runs is given.
    """
    used = {_CODEC, HOME_VARIABLE}
    return sorted(
        name
        for name in environ
        if name.startswith("NEXTWATCH_")
        and name not in used
        and not name.startswith("NEXTWATCH_TEST_")
        and not name.startswith("NEXTWATCH_CONSOLE_")
        and not (is_kafka_given and name.startswith("NEXTWATCH_KAFKA_"))
    )


def _client_env(broker: BrokerChoice | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that clients of *broker* need besides its address."""
    if broker is None:
        return {}
    if broker.engine is not None:
        codec = {_CODEC: environ[_CODEC]} if _CODEC in environ else {}
        return codec if broker.is_durable else codec | tansu.CLIENT_ENV
    prefix = "NEXTWATCH_KAFKA_"
    given = {name: value for name, value in environ.items() if name.startswith(prefix)}
    return given | {_BOOTSTRAP: broker.bootstrap_servers}
