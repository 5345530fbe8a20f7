"""End a worker that stands still, so that the group gives its partitions to another one."""

import structlog

from contract.process.entrypoint import exit_now
from contract.process.exit_codes import ExitCode
from streams.faust.app import App

log = structlog.get_logger()


def end_stalled(app: App, reason: str) -> None:
    """End the process: an orderly shutdown might commit what has failed, or wait for ever.

    A worker that was told to stop, and has nothing to commit, leaves everything in order: Faust
    waits for the group's answer to a worker that joins, which may take as long as the group likes.
    """
    if app.should_stop and not app.crashed and not app.committable():
        log.warning("stopped_while_waiting", reason=reason)
        exit_now(ExitCode.STOPPED)
    log.critical("worker_stalled", reason=reason)
    exit_now(ExitCode.STALLED)
