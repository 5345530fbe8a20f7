"""How a worker ends at once: nothing that failed may be committed by an orderly shutdown."""

import os
import sys

import structlog

from contract.process import ExitCode, code_of
from streams.faust.app import App

log = structlog.get_logger()


def die(error: BaseException) -> None:
    """End the process because of *error*."""
    code = code_of(error)
    trace = error if code is ExitCode.FAILED else None
    log.critical("streams_failed", error=f"{type(error).__name__}: {error}", exc_info=trace)
    _exit(code)


def end_stalled(app: App, reason: str) -> None:
    """End the process, so that the group gives its partitions to another worker.

    A worker that was told to stop, and has nothing to commit, leaves everything in order: Faust
    waits for the group's answer to a worker that joins, which may take as long as the group likes.
    """
    if app.should_stop and not app.crashed and not app.committable():
        log.warning("stopped_while_waiting", reason=reason)
        _exit(ExitCode.STOPPED)
    log.critical("worker_stalled", reason=reason)
    _exit(ExitCode.STALLED)


def _exit(code: ExitCode) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
