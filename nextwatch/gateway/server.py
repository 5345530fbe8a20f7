"""Run the gateway as a process: the composition root of `nextwatch gateway`."""

import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette

from contract.cluster.preflight import Preflight, check_ready_file, port_error
from contract.cluster.watch import ClusterWatch
from contract.process import log_setup, readiness
from contract.process.clock import system_clock
from contract.process.entrypoint import log_failure
from contract.process.settings import (
    PREFIX,
    KafkaSettings,
    ProcessSettings,
    QdrantSettings,
    check_all,
    load,
)
from nextwatch.acls import gateway_needs
from nextwatch.gateway.bounds.protocol import BoundedProtocol
from nextwatch.gateway.gateway import Gateway, application
from nextwatch.gateway.settings import GatewaySettings

log = structlog.get_logger()

GROUPS = (KafkaSettings, QdrantSettings, ProcessSettings, GatewaySettings)
KEEP_ALIVE_S = 30
_BACKLOG = 512


class GatewayServer(uvicorn.Server):
    """Serves *app*; it calls *on_start* when it does, *on_stop* before it waits for requests."""

    def __init__(
        self,
        app: Starlette,
        settings: GatewaySettings,
        *,
        on_start: Callable[[], None],
        on_stop: Callable[[], None],
    ) -> None:
        bounds: dict[str, Any] = {
            "request_within_s": settings.request_within_ms / 1_000,
            "max_connections": settings.max_connections,
        }
        super().__init__(
            uvicorn.Config(
                app,
                http=type("GatewayProtocol", (BoundedProtocol,), bounds),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=drain_s(settings),
                backlog=_BACKLOG,
            )
        )
        self._on_start = on_start
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and tell it."""
        await super().startup(sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what waits and what follows, and then as uvicorn does."""
        self._on_stop()
        await super().shutdown(sockets)

    def end(self) -> None:
        """Ask the server to end; any thread may call this."""
        self.should_exit = True


def drain_s(settings: GatewaySettings) -> int:
    """Return how long a server that ends waits for its requests: until each is acknowledged.

    The chart and docker-compose.yml give the container longer than that.
    """
    return settings.ack_within_ms // 1_000 + 1


def run(environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        ContractError: settings or topics do not fit, or the port is taken.
        BrokerUnavailable: the broker does not answer at the start, or reading failed for good.
    """
    check_all(GROUPS, environ)
    kafka = load(KafkaSettings, environ)
    process = load(ProcessSettings, environ)
    settings = load(GatewaySettings, environ)
    log_setup.configure(process.log_level)
    check_ready_file(process.ready_file)
    readiness.withdraw(process.ready_file)
    preflight = Preflight(kafka, gateway_needs(kafka.layout))
    preflight.check(needs_leaders=False)
    failures: list[BaseException] = []
    ready = readiness.ReadyFile(process.ready_file)

    def fail(error: BaseException) -> None:
        failures.append(error)
        log_failure(error)
        server.end()

    watch = ClusterWatch(preflight.look, on_end=fail, on_change=ready.note)
    gateway = Gateway(
        settings,
        kafka,
        load(QdrantSettings, environ),
        clock=system_clock,
        on_failure=fail,
        cluster=lambda: watch.reason,
    )
    server = GatewayServer(
        application(gateway), settings, on_start=ready.declare, on_stop=gateway.answers.close
    )
    listening = _listen(settings)
    if gateway.key is None and not settings.is_loopback:
        log.warning(
            "gateway_open", host=settings.host, reason=f"{PREFIX}GATEWAY_API_KEY is not set"
        )
    # uvicorn stops on a signal and then raises it again for whoever handled it before
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    watch.start()
    log.info("gateway_served", host=settings.host, port=settings.port, has_key=bool(gateway.key))
    try:
        server.run(sockets=[listening])
    finally:
        watch.stop()
        log.info("gateway_stopped", **gateway.counts)
    if failures:
        raise failures[0]


def _listen(settings: GatewaySettings) -> socket.socket:
    """Return a socket that listens where *settings* say.

    Raises:
        ContractError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        variable = f"{PREFIX}GATEWAY_PORT"
        raise port_error(error, settings.host, settings.port, variable) from error
