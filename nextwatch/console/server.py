"""Run the console: as a process of its own, or in a thread of the demo.

The composition root of `nextwatch console`. It listens on loopback alone.
"""

import signal
import socket
from collections.abc import Callable, Mapping
from threading import Thread
from time import monotonic

import structlog

from contract.cluster.preflight import Preflight, check_ready_file
from contract.cluster.watch import ClusterWatch
from contract.process import log_setup, readiness
from contract.process.clock import Clock, system_clock
from contract.process.entrypoint import log_failure
from contract.process.settings import (
    KafkaSettings,
    ProcessSettings,
    QdrantSettings,
    check_all,
    load,
)
from models.history.settings import WindowSettings
from nextwatch.acls import console_needs
from nextwatch.console.console import Console, ConsoleParts
from nextwatch.console.listening import listen, url_of
from nextwatch.console.operator.faults import Faults
from nextwatch.console.settings import ConsoleSettings
from nextwatch.demo.figures.report import Course, Report
from nextwatch.demo.observer import Observer
from nextwatch.gateway.gateway import Condition
from nextwatch.gateway.server import GatewayServer
from nextwatch.gateway.settings import GatewaySettings

log = structlog.get_logger()

GROUPS = (
    *(KafkaSettings, QdrantSettings, ProcessSettings, WindowSettings),
    *(GatewaySettings, ConsoleSettings),
)
_STOP_S = 0.5


def run(environ: Mapping[str, str], *, tell: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; *tell* prints the address.

    Raises:
        ContractError: settings or topics do not fit, or the port is taken.
        BrokerUnavailable: the broker does not answer at the start, or reading failed for good.
        StackError: the figures cannot be read any more.
    """
    check_all(GROUPS, environ)
    kafka, qdrant = load(KafkaSettings, environ), load(QdrantSettings, environ)
    process, settings = load(ProcessSettings, environ), load(ConsoleSettings, environ)
    log_setup.configure(process.log_level)
    check_ready_file(process.ready_file)
    readiness.withdraw(process.ready_file)
    preflight = Preflight(kafka, console_needs(kafka.layout))
    preflight.check(needs_leaders=False)
    observer = Observer(kafka, qdrant, system_clock)
    observer.tally.feed_started_ms = system_clock()
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        log_failure(error)
        server.end()

    ready = readiness.ReadyFile(process.ready_file)
    watch = ClusterWatch(preflight.look, on_end=fail, on_change=ready.note)
    began_s = monotonic()
    console = Console(
        parts_of(
            environ,
            observer=observer,
            report=lambda: observer.report(
                Course(startup_s=None, rate=0.0, seconds=monotonic() - began_s)
            ),
            clock=system_clock,
            on_failure=fail,
            cluster=lambda: watch.reason,
        )
    )
    listening = listen(settings.port)

    def say_ready() -> None:
        ready.declare()
        tell(f"console at {url_of(listening)}")

    server = server_of(console, load(GatewaySettings, environ), on_start=say_ready)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn raises it again once it has stopped
    observer.start()
    watch.start()
    log.info("console_served", port=settings.port)
    try:
        server.run(sockets=[listening])
    finally:
        watch.stop()
        observer.stop()
        log.info("console_stopped")
    if failures:
        raise failures[0]
    observer.check()


def parts_of(
    environ: Mapping[str, str],
    *,
    observer: Observer,
    report: Callable[[], Report],
    clock: Clock,
    on_failure: Callable[[BaseException], None],
    cluster: Condition = str,
    faults: Faults | None = None,
) -> ConsoleParts:
    """Return the parts of a console by the settings in *environ*.

    Raises:
        ContractError: a setting is unknown or out of bounds.
    """
    return ConsoleParts(
        kafka=load(KafkaSettings, environ),
        qdrant=load(QdrantSettings, environ),
        gateway=load(GatewaySettings, environ),
        observer=observer,
        report=report,
        bundle_url=load(ProcessSettings, environ).bundle_url,
        policy=load(WindowSettings, environ).policy,
        clock=clock,
        on_failure=on_failure,
        cluster=cluster,
        erase_within_s=load(ConsoleSettings, environ).erase_within_s,
        faults=faults,
    )


def server_of(
    console: Console, settings: GatewaySettings, *, on_start: Callable[[], None] = lambda: None
) -> GatewayServer:
    """Return the server of *console*, with the bounds of the gateway."""
    return GatewayServer(
        console.application(), settings, on_start=on_start, on_stop=console.end_streams
    )


class ConsoleThread:
    """The console beside other work of this process, on a socket that listens already."""

    def __init__(self, parts: ConsoleParts, listening: socket.socket) -> None:
        self._socket = listening
        self._server = server_of(Console(parts), parts.gateway)
        self._thread = Thread(target=self._run, name="console", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving, without waiting long."""
        self._server.end()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])
