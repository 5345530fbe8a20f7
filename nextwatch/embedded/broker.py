"""Choose and run the embedded broker: Apache Kafka as one child process.

In this order: an unpacked distribution that was named, the pinned Kafka from the user's cache
(fetched at first), and only where neither can be had, and the caller allows it, Tansu, which
keeps its records in memory and is good for minutes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from contract.errors import StackError
from nextwatch.embedded import tansu
from nextwatch.embedded.kafka import node
from nextwatch.embedded.kafka.distribution import Distribution, fetched, unpacked
from nextwatch.embedded.kafka.preparation import prepare
from nextwatch.embedded.process.ports import LOOPBACK, free_ports
from nextwatch.embedded.process.process import Child, Plan

log = structlog.get_logger(__name__)

HOME_VARIABLE = "NEXTWATCH_KAFKA_HOME"
TANSU = "tansu"
KAFKA = "kafka"
START_TIMEOUT_S = 60.0
ATTEMPTS = 3
REMEDY = (
    "The embedded broker failed: name a Kafka broker by --bootstrap HOST:PORT, or an unpacked distribution by "
    f"--broker kafka:DIR or {HOME_VARIABLE}"
)


@dataclass(frozen=True, slots=True)
class Engine:
    """The broker program: a Kafka distribution, or Tansu where that is None.

    A *warning* says what a person must know about it.
    """

    distribution: Distribution | None
    warning: str = ""

    @property
    def name(self) -> str:
        """Return the name of the program, for people."""
        return tansu.NAME if self.distribution is None else self.distribution.name

    @property
    def is_durable(self) -> bool:
        """Whether its records outlive its process."""
        return self.distribution is not None


def choose_engine(
    environ: Mapping[str, str], wanted: str | None = None, *, may_fall_back: bool = False
) -> Engine:
    """Return the broker named by *wanted* or by `HOME_VARIABLE`, else the pinned Kafka.

    *wanted* is ``kafka:DIR``, ``kafka`` or ``tansu``.

    Raises:
        StackError: it cannot be had; with *may_fall_back* Tansu takes its place.
        StorageFull: the disk of the cache is full, which a person mends: nothing takes its place.
        ValueError: *wanted* is none of these.
    """
    kind, _, place = (wanted or KAFKA).partition(":")
    if kind not in {KAFKA, TANSU} or (kind == TANSU and place):
        raise ValueError(f"a broker is kafka, kafka:DIR or tansu, got {wanted!r}")
    if kind == TANSU:
        return Engine(None, tansu.LIMITS)
    if home := place or (environ.get(HOME_VARIABLE, "") if wanted is None else ""):
        return _prepared(unpacked(Path(home), environ))
    try:
        return _prepared(fetched())
    except StackError as error:
        if not may_fall_back or not tansu.is_available():
            raise
        return Engine(None, f"{error}. {tansu.LIMITS}")


@dataclass(frozen=True, slots=True)
class BrokerChoice:
    """The broker of a stack: an *engine* to start, or else a Kafka at *bootstrap_servers*.

    A *port* of 0 is a free one. Where another process takes the port before the broker does, the
    broker takes another one, unless it *is_fixed*: somebody asked for it by its number.
    """

    engine: Engine | None
    port: int = 0
    is_fixed: bool = False
    bootstrap_servers: str = ""

    @property
    def name(self) -> str:
        """Return the name of the broker, for people."""
        return f"Kafka at {self.bootstrap_servers}" if self.engine is None else self.engine.name

    @property
    def warning(self) -> str:
        """The limits that a person must know; empty for Kafka."""
        return self.engine.warning if self.engine else ""

    @property
    def is_durable(self) -> bool:
        """Whether its records are kept with the state of the stack."""
        return self.engine is not None and self.engine.is_durable


def default_engine(environ: Mapping[str, str]) -> Engine:
    """Return the default broker; falling back to Tansu is logged.

    Raises:
        StackError: there is none for this machine.
    """
    engine = choose_engine(environ, may_fall_back=True)
    if engine.warning:
        log.warning("broker_fell_back", reason=engine.warning)
    return engine


def choose_broker(
    environ: Mapping[str, str],
    *,
    broker: str | None = None,
    bootstrap_servers: str | None = None,
    port: int = 0,
    is_fixed: bool = False,
) -> BrokerChoice:
    """Return the broker for the options of a command; by default Tansu may be the last resort.

    Raises:
        StackError: it cannot be had, or the wishes contradict each other.
    """
    if bootstrap_servers:
        if broker:
            raise StackError(
                "--broker starts a broker and --bootstrap names one that runs: give one"
            )
        return BrokerChoice(None, bootstrap_servers=bootstrap_servers)
    try:
        engine = choose_engine(environ, broker, may_fall_back=broker is None)
    except ValueError as error:
        raise StackError(str(error)) from error
    return BrokerChoice(engine, port, is_fixed)


def _prepared(distribution: Distribution) -> Engine:
    prepare(distribution)
    return Engine(distribution)


class EmbeddedBroker:
    """A broker on a port of the loopback interface: *port*, or a free one.

    With an *advertised_port* clients are sent there, to whoever passes their bytes on to `port`.
    Records are kept in *data_dir*, beside the log where none is given. It is ready only when its
    own process listens, so a foreign broker that took the port never passes for it.
    """

    def __init__(
        self,
        *,
        env: Mapping[str, str],
        log_path: Path,
        engine: Engine | None = None,
        data_dir: Path | None = None,
        port: int = 0,
        advertised_port: int = 0,
    ) -> None:
        self.engine = engine or default_engine(env)
        self._env = env
        self._log_path = log_path
        self._data_dir = data_dir or log_path.with_suffix(".data")
        self._wanted_port = port
        self._advertised_port = advertised_port
        self.child = self._new_child()

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients; final once `start` has returned."""
        return f"{LOOPBACK}:{self._advertised_port or self.port}"

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the broker and wait until it listens; try another port if its own was taken.

        Raises:
            StackError: it did not start, with the way around it.
        """
        self.child.start(is_urgent=True)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self.child.wait_ready(timeout_s)
            except StackError as error:
                self.child.kill()
                if attempt == ATTEMPTS or self._wanted_port:
                    raise StackError(f"{error}\n{REMEDY}") from error
                self.start_elsewhere()
            else:
                return

    def start_elsewhere(self) -> None:
        """Start the broker, which has ended, on other free ports, and do not wait for it."""
        self._wanted_port = 0
        self.child = self._new_child()
        self.child.start(is_urgent=True)

    def _new_child(self) -> Child:
        free = free_ports(2)
        self.port = self._wanted_port or free[0]
        if self.engine.distribution is None:
            env = {**self._env, **tansu.ENV}
            argv = tansu.command(self.port, self._advertised_port or self.port)
            return Child(Plan("broker", argv, env, self._log_path, (self.port,)))
        ports = (self.port, free[1])
        argv, env = self._kafka(free[1]), node.java_env(self._env)
        return Child(Plan("broker", argv, env, self._log_path, ports))

    def _kafka(self, controller_port: int) -> tuple[str, ...]:
        distribution = self.engine.distribution
        assert distribution is not None
        self._data_dir.parent.mkdir(parents=True, exist_ok=True)
        if not node.is_formatted(self._data_dir):
            node.copy_template(distribution.template, self._data_dir)
        settings = node.configure(
            self._data_dir.parent,
            data_dir=self._data_dir,
            port=self.port,
            controller_port=controller_port,
            advertised_port=self._advertised_port or self.port,
        )
        flags = [f"-XX:ErrorFile={self._log_path.with_suffix('.crash.log')}"]
        if distribution.aot_cache is not None and distribution.aot_cache.exists():
            flags.append(f"-XX:AOTCache={distribution.aot_cache}")
        return node.server_command(distribution, settings, *flags)
