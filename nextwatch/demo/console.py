"""Serve the console beside the demo, of what its observer and its stack know.

The modules of the console are imported while the system starts, so that its first figures are not
blurred by that; it serves after the first recommendation.
"""

from collections.abc import Callable
from importlib import import_module
from socket import socket
from threading import Thread
from typing import TYPE_CHECKING

import structlog

from contract.process.clock import Clock
from nextwatch.console.listening import url_of
from nextwatch.demo.figures.report import Report
from nextwatch.demo.observer import Observer
from nextwatch.embedded.stack import EmbeddedStack

if TYPE_CHECKING:
    from nextwatch.console.server import ConsoleThread

log = structlog.get_logger(__name__)

_MODULES = "nextwatch.console.server"


class DemoConsole:
    """The console of one run, on the socket *listening*."""

    def __init__(self, listening: socket) -> None:
        self._socket = listening
        self.url = url_of(listening)
        self._loading = Thread(
            target=import_module, args=(_MODULES,), name="console-modules", daemon=True
        )
        self._thread: ConsoleThread | None = None

    def prepare(self) -> None:
        """Begin to import what the console needs."""
        self._loading.start()

    def start(
        self, stack: EmbeddedStack, observer: Observer, report: Callable[[], Report], clock: Clock
    ) -> None:
        """Serve *stack*, as *observer* sees it."""
        self._loading.join()
        from nextwatch.console.operator.faults import Faults  # noqa: PLC0415
        from nextwatch.console.server import ConsoleThread, parts_of  # noqa: PLC0415

        parts = parts_of(
            stack.env,
            observer=observer,
            report=report,
            clock=clock,
            on_failure=lambda error: log.warning("console_failed", reason=str(error)),
            faults=Faults(stack, clock),
        )
        self._thread = ConsoleThread(parts, self._socket)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        if self._thread is not None:
            self._thread.stop()
        self._socket.close()
