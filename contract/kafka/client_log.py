"""Log the messages of Kafka's clients, each kind once in `EVERY_S` seconds.

Without this each client of librdkafka writes ``%3|...|FAIL|...`` to standard error, again for each
try to connect, and aiokafka logs ten lines a second while its broker is away. A client of
librdkafka hands its lines over when it is polled.
"""

import logging
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()

EVERY_S = 10.0
_METHODS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning"}


class _Kinds:
    """Decides which lines are logged, and counts the ones of their kind that were left out."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._next_s: dict[str, float] = {}
        self._num_left_out: dict[str, int] = {}

    def left_out(self, kind: str) -> int | None:
        """Return how many lines were left out before this one; None if this one is left out too."""
        now_s = self._monotonic()
        if now_s < self._next_s.get(kind, now_s):
            self._num_left_out[kind] = self._num_left_out.get(kind, 0) + 1
            return None
        self._next_s[kind] = now_s + EVERY_S
        return self._num_left_out.pop(kind, 0)


class RepeatFilter(logging.Filter):
    """Lets a logger of the standard library repeat a message only once in `EVERY_S` seconds."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._kinds = _Kinds(monotonic)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether *record* is logged; its kind is the text before arguments are inserted."""
        left_out = self._kinds.left_out(str(record.msg))
        if left_out:
            record.msg = f"{record.msg} ({left_out} more left out)"
        return left_out is not None


class ClientLog:
    """The ``logger`` of all confluent-kafka clients of a process.

    *last_error* is the newest line of an error, for whoever has to say why nobody answered.
    """

    def __init__(
        self, *, monotonic: Callable[[], float] = time.monotonic, is_silent: bool = False
    ) -> None:
        self.last_error = ""
        self._is_silent = is_silent
        self._kinds = _Kinds(monotonic)

    def log(self, level: int, _form: str, kind: str, client: str, text: str) -> None:
        """Log *text* of a *client*, unless its *kind* was logged within `EVERY_S` seconds."""
        text = text.partition("]: ")[2] if text.startswith("[thrd:") else text
        if level >= logging.ERROR:
            self.last_error = text
        if self._is_silent or (left_out := self._kinds.left_out(kind)) is None:
            return
        write = getattr(log, _METHODS.get(level, "error"))
        write("kafka_client_said", kind=kind, client=client, text=text, left_out=left_out)


CLIENT_LOG = ClientLog()
