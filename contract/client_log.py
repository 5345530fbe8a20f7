"""What librdkafka has to say, as facts of the log: one line of a kind in `EVERY_S` seconds.

Without this each client writes ``%3|...|FAIL|...`` to standard error, again for each try to
connect. A client hands its lines over when it is polled.
"""

import logging
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()

EVERY_S = 10.0
_METHODS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning"}


class ClientLog:
    """The ``logger`` of confluent-kafka clients; one for all of a process.

    *last_error* is the newest line of an error, for whoever has to say why nobody answered.
    """

    def __init__(
        self, *, monotonic: Callable[[], float] = time.monotonic, is_silent: bool = False
    ) -> None:
        self.last_error = ""
        self._monotonic = monotonic
        self._is_silent = is_silent
        self._next_s: dict[str, float] = {}
        self._num_left_out: dict[str, int] = {}

    def log(self, level: int, _form: str, kind: str, client: str, text: str) -> None:
        """Log *text* of a *client*, unless a line of its *kind* was logged a moment ago."""
        text = text.partition("]: ")[2] if text.startswith("[thrd:") else text
        if level >= logging.ERROR:
            self.last_error = text
        if self._is_silent:
            return
        now_s = self._monotonic()
        if now_s < self._next_s.get(kind, now_s):
            self._num_left_out[kind] = self._num_left_out.get(kind, 0) + 1
            return
        self._next_s[kind] = now_s + EVERY_S
        write = getattr(log, _METHODS.get(level, "error"))
        left_out = self._num_left_out.pop(kind, 0)
        write("kafka_client_said", kind=kind, client=client, text=text, left_out=left_out)


CLIENT_LOG = ClientLog()
