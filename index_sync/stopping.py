"""Stop the process within a bound after SIGTERM, Ctrl-C or an error in another thread.

Python runs a signal handler between two bytecodes of the main thread, and that thread may be
inside a call of librdkafka or of the index for half a minute. So the signal itself wakes a
thread of its own, which ends the process when the main thread does not. Nothing is lost: an
offset is committed after the effects of its records, and the next start goes on from there.
"""

import os
import signal
import socket
from threading import Event, Thread

import structlog

log = structlog.get_logger()

STOP_WITHIN_S = 2.0


def stop_on_signals(stopping: Event, *, within_s: float = STOP_WITHIN_S) -> None:
    """Set *stopping* on SIGTERM or SIGINT; end the process *within_s* seconds later."""
    woken, waker = socket.socketpair()
    waker.settimeout(0.0)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    arguments = (woken, waker, stopping, within_s)
    Thread(target=_await_signal, args=arguments, name="stopping", daemon=True).start()


def stop_soon(stopping: Event, code: int, *, within_s: float = STOP_WITHIN_S) -> None:
    """Set *stopping*; end the process with *code* *within_s* seconds later."""
    stopping.set()
    Thread(target=_end_after, args=(within_s, code), name="stopping", daemon=True).start()


def _await_signal(
    woken: socket.socket, _waker: socket.socket, stopping: Event, within_s: float
) -> None:
    woken.recv(1)
    stopping.set()
    _end_after(within_s, 0)


def _end_after(within_s: float, code: int) -> None:
    Event().wait(within_s)
    log.warning("stopped_while_waiting", after_s=within_s)
    os._exit(code)
