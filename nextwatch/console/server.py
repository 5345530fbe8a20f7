"""Run the console: as a process of its own, or in a thread of the demo.

The composition root of `nextwatch console`. It listens on loopback alone.
"""

import errno
import signal
import socket
from collections.abc import Callable, Mapping
from threading import Thread
from time import monotonic
from types import TracebackType
from typing import Self

import structlog

from contract.cluster.preflight import Preflight, check_ready_file, port_error
from contract.errors import ContractError
from contract.process import log_setup, readiness
from contract.process.clock import Clock, system_clock
from contract.process.entrypoint import log_failure
from contract.process.settings import (
    PREFIX,
    KafkaSettings,
    ProcessSettings,
    QdrantSettings,
    check_all,
    load,
)
from models.history.settings import WindowSettings
from nextwatch.acls import console_needs
from nextwatch.console.console import Console, ConsoleParts
from nextwatch.console.operator.faults import Faults
from nextwatch.console.settings import ConsoleSettings
from nextwatch.demo.figures.report import Course, Report
from nextwatch.demo.observer import Observer
from nextwatch.embedded.process.ports import LOOPBACK
from nextwatch.gateway.server import GatewayServer
from nextwatch.gateway.settings import GatewaySettings

log = structlog.get_logger()

GROUPS = (
    *(KafkaSettings, QdrantSettings, ProcessSettings, WindowSettings),
    *(GatewaySettings, ConsoleSettings),
)
_BACKLOG = 64
_STOP_S = 1.0


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
    Preflight(kafka, console_needs(kafka.layout)).check(needs_leaders=False)
    observer = Observer(kafka, qdrant, system_clock)
    observer.tally.feed_started_ms = system_clock()
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        log_failure(error)
        server.end()

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
        )
    )
    listening = listen(settings.port)
    server = server_of(console, load(GatewaySettings, environ))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn raises it again once it has stopped
    observer.start()
    readiness.ReadyFile(process.ready_file).declare()
    tell(f"console at http://{LOOPBACK}:{settings.port}/")
    log.info("console_served", port=settings.port)
    try:
        server.run(sockets=[listening])
    finally:
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
        erase_within_s=load(ConsoleSettings, environ).erase_within_s,
        faults=faults,
    )


def server_of(console: Console, settings: GatewaySettings) -> GatewayServer:
    """Return the server of *console*, with the bounds of the gateway."""
    return GatewayServer(console.application(), settings, on_stop=console.end_streams)


def listen(port: int) -> socket.socket:
    """Return a socket that listens on *port* of the loopback interface; 0 is any free one.

    Raises:
        ContractError: the port is taken, or may not be used.
    """
    try:
        return socket.create_server((LOOPBACK, port), backlog=_BACKLOG)
    except OSError as error:
        raise port_error(error, LOOPBACK, port, f"{PREFIX}CONSOLE_PORT") from error


class ConsoleThread:
    """The console beside other work of this process; it ends with the block, or on `stop`."""

    def __init__(self, parts: ConsoleParts, *, port: int, is_fixed: bool) -> None:
        """Listen on *port*; unless it *is_fixed*, on any free one where that is taken.

        Raises:
            ContractError: the port is taken, or may not be used.
        """
        self._socket = _listen_near(port, is_fixed=is_fixed)
        self.url = f"http://{LOOPBACK}:{self._socket.getsockname()[1]}/"
        """The address for a browser."""
        self._server = server_of(Console(parts), parts.gateway)
        self._thread = Thread(target=self._run, name="console", daemon=True)

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

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving, without waiting long."""
        self._server.end()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


def _listen_near(port: int, *, is_fixed: bool) -> socket.socket:
    try:
        return listen(port)
    except ContractError as error:
        cause = error.__cause__
        is_taken = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
        if is_fixed or not is_taken:
            raise
        return listen(0)
