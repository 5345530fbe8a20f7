"""Start and end a process: the convention that streams, trainer and index_sync share.

The command line ends by the same (`run_to_end`).

* Every setting is an environment variable; ``--help`` names all of them with their defaults.
* An error in the main thread ends the process with one line on standard error and the exit code
  for it, or with a traceback and 70 (`contract.process.exit_codes`).
* An error in any other thread is the log line ``process_failed``, and the same exit code. `end_now`
  ends the process there and then; `contract.cluster.watch.Ending` lets the main thread end in
  order.
* A process that was asked to stop, and has, ends with 0.
* However *run* ends, Python is not finalized: a thread that is in native code meanwhile would end
  the process by SIGABRT or SIGSEGV instead. Seen while a model was opened (onnxruntime), a module
  imported, and after a CSV file that Arrow refused.
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NoReturn

import structlog

from contract.process import log_setup as nextwatch_logging
from contract.process.exit_codes import ExitCode, code_of, told_in_one_line
from contract.process.settings import ProcessSettings, Settings, check_all, load, usage

log = structlog.get_logger()

_INTERRUPTED = 128 + signal.SIGINT
"""As a shell tells of a program that Ctrl-C has ended."""


def run_process(
    name: str,
    run: Callable[[Mapping[str, str]], None],
    *,
    description: str | None,
    settings: Sequence[type[Settings]],
    options: Mapping[str, str] = {},
) -> NoReturn:
    """Run ``python -m name``: call *run* with the environment until it returns, and end.

    What goes on in threads then is cut off; *run* waits for what has to be finished.

    Each of *options*, such as ``model``, overrides the environment variable that it is mapped to.
    """
    environ = _environ(name, description, settings, options)
    with told_in_one_line(name):
        check_all(settings, environ)
        nextwatch_logging.configure(load(ProcessSettings, environ).log_level)
    run_to_end(name, partial(run, environ))


def run_to_end(name: str, run: Callable[[], object]) -> NoReturn:
    """Call *run*, tell its failure as *name*, and end the process by its code."""
    code: int = ExitCode.FAILED  # where even the failure cannot be told, as with a closed stderr
    try:
        code = _code_after(name, run)
    finally:
        exit_now(code)


def log_failure(error: BaseException) -> ExitCode:
    """Log that the process fails because of *error*; return the exit code for it."""
    code = code_of(error)
    trace = error if code is ExitCode.FAILED else None
    reason = f"{type(error).__name__}: {error}"
    log.critical("process_failed", reason=reason, code=int(code), exc_info=trace)
    return code


def end_now(error: BaseException) -> NoReturn:
    """End the process because of *error*, at once and from any thread."""
    exit_now(log_failure(error))


def exit_now(code: int) -> NoReturn:
    """End the process with *code*, at once and from any thread."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # a full disk, or nobody reads: what was printed is lost
            code = code or ExitCode.UNDONE
        except (AttributeError, ValueError):  # it is closed, or was from the start
            continue
    os._exit(code)


def _code_after(name: str, run: Callable[[], object]) -> int:
    """Return the exit code of *run*, whose failure is told."""
    try:
        with told_in_one_line(name):
            run()
    except SystemExit as ended:
        return _code_of_exit(ended)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - asyncio's CancelledError is no Exception
        traceback.print_exception(error)
        return ExitCode.FAILED
    return ExitCode.STOPPED


def _code_of_exit(ended: SystemExit) -> int:
    """Return the exit code that Python gives *ended*; print what it says instead of a number."""
    if ended.code is None or isinstance(ended.code, int):
        return ended.code or ExitCode.STOPPED
    sys.stderr.write(f"{ended.code}\n")
    return ExitCode.UNDONE


def _environ(
    name: str,
    description: str | None,
    settings: Sequence[type[Settings]],
    options: Mapping[str, str],
) -> Mapping[str, str]:
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=description,
        epilog=usage(*settings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for option, variable in options.items():
        parser.add_argument(
            f"--{option}", metavar="NAME", help=f"instead of {variable}, for this run"
        )
    given = vars(parser.parse_args())
    overrides = {
        variable: given[option.replace("-", "_")]
        for option, variable in options.items()
        if given[option.replace("-", "_")] is not None
    }
    return dict(os.environ) | overrides
