"""Run an app in Faust's worker until a signal ends it."""

import faust

from contract.process.exit_codes import ExitCode
from streams.faust.app import App


def run_worker(app: App) -> None:
    """Run *app* until SIGTERM or SIGINT; its exit code is `ExitCode.FAILED` if Faust crashed."""
    worker = faust.Worker(
        app, loglevel="WARNING", redirect_stdouts=False, quiet=True, override_logging=False
    )
    worker.spinner = None  # it would draw into log files, too
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        if ended.code:  # Faust's own services crashed, and it has logged why
            raise SystemExit(ExitCode.FAILED) from ended
        raise
