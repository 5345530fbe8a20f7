"""Serve the status of a process over HTTP, from threads of its own.

Each connection has a thread for a few seconds at most, also one that sends byte by byte.

The port is bound before anything else is done, so that one that is taken ends the start with the
setting to mend. Without a port in the settings it is the first free one of the process's own, since
several workers of one machine may have the same settings; a scrape names all of them.
"""

import errno
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import monotonic
from typing import Any, Self
from urllib.parse import urlsplit

import structlog

from contract.cluster.preflight import port_error
from contract.metrics.exposition import Read
from contract.status.status import Condition, Status, StatusAnswer

log = structlog.get_logger()

FIRST_PORTS = {"streams": 9750, "trainer": 9770, "index_sync": 9790}
"""Where a process without a port in its settings begins to look for a free one."""

NUM_PORTS = 20
"""So many ports are tried; then any free one is taken."""

OFF = 0
_READ_WITHIN_S = 5.0
_OPEN_WITHIN_S = 10.0
_STOP_WITHIN_S = 0.1


_FAILED = StatusAnswer(500, "text/plain; charset=utf-8", b"failed; the log has the reason\n")


class _Handler(BaseHTTPRequestHandler):
    """Answers one request and closes the connection, also of a client that sends nothing."""

    timeout = _READ_WITHIN_S
    server_version = "nextwatch"
    sys_version = ""

    def __init__(self, status: Status, *args: object) -> None:
        self._status = status
        super().__init__(*args)  # type: ignore[arg-type]  # as socketserver gives them

    def do_GET(self) -> None:
        """Answer a GET; where the answer cannot be made, the log has the reason."""
        path = _path_of(self.path)
        try:
            answer = self._status.answer(path, self.headers.get("Accept", ""))
        except Exception:  # the outermost frame of a request
            log.exception("status_failed", path=path)
            answer = _FAILED
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server asks for

    def log_message(self, *_: object) -> None:
        """Log no requests."""


def _path_of(target: str) -> str:
    """Return the path of the *target* of a request; empty for one that is not a URL."""
    try:
        return urlsplit(target).path
    except ValueError:
        return ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 16

    def __init__(self, *args: Any) -> None:
        self._open: dict[socket.socket, float] = {}
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, and note since when."""
        self._open[request] = monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End what is open for too long: a timeout of reading begins anew with each byte."""
        for request, since_s in self._open.copy().items():
            if monotonic() - since_s > _OPEN_WITHIN_S:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        """Bind without a look-up of the host's name, which may take seconds.

        A connection of a scrape that a predecessor closed holds the port for a minute in
        TIME_WAIT; it must not keep a restarted process from its own port.
        """
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, *_: object) -> None:
        """Log no traceback of a client that has gone."""


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class StatusServer:
    """Serves a status until it is stopped; `port` is 0 where it is off."""

    def __init__(
        self, process: str, *, host: str, port: int | None, variable: str, rank: int = 0
    ) -> None:
        """Listen; the *rank* of a process in its group is added to a given port.

        Raises:
            ContractError: the address cannot be listened on; the message names *variable*.
        """
        self.status = Status(process)
        self.port = 0
        self._server: _Server | None = None
        if port == OFF:
            return
        if port is None:
            first = FIRST_PORTS[process]
            tried = (*range(first, first + NUM_PORTS), 0)
        else:
            tried = (port + rank,)
        self._server = _bound(host, tried, partial(_Handler, self.status), variable)
        self.port = int(self._server.server_port)
        serve = partial(self._server.serve_forever, poll_interval=_STOP_WITHIN_S)
        Thread(target=serve, name="status", daemon=True).start()

    def show(
        self,
        *,
        conditions: Mapping[str, Condition],
        metrics: Read,
        alive: Condition = lambda: "",
    ) -> None:
        """Answer from now on by the parts of the process, as `Status.show` says; log the address.

        Not earlier, since a process that cannot start says so in one line.
        """
        self.status.show(conditions=conditions, metrics=metrics, alive=alive)
        if self._server is not None:
            log.info("status_served", host=self._server.server_name, port=self.port)

    @property
    def is_on(self) -> bool:
        """Whether anything is served."""
        return self._server is not None

    def stop(self) -> None:
        """Stop listening; a second call does nothing."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _bound(
    host: str, ports: tuple[int, ...], handler: "partial[_Handler]", variable: str
) -> _Server:
    """Return a server on the first free one of *ports*."""
    kind = _ServerV6 if ":" in host else _Server
    for port in ports:
        try:
            return kind((host, port), handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port == ports[-1]:
                raise port_error(error, host, port, variable) from error
    raise AssertionError("one port is tried at least")
