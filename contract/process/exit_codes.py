"""Define how processes and commands end: one line on standard error, and an exit code.

The codes are those of ``sysexits.h`` where it has a fitting one. Only 74 and 78 need a person;
after every other one the next start continues where the acknowledged offsets stand.
"""

import errno
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from contract.errors import (
    BrokerUnavailable,
    ContractError,
    DatasetError,
    IndexUnavailable,
    NextwatchError,
    StackError,
    StorageFull,
    StoreUnavailable,
    WorkerPausedError,
)

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_WORDS = "No space left on device"
_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}


class ExitCode(IntEnum):
    """The exit codes of all processes and commands."""

    STOPPED = 0
    """It was asked to stop and left everything in order, or it did what it was asked to do."""
    UNDONE = 1
    """A command did not do all that it was asked to do; it says what is left and the remedy."""
    BROKER_AWAY = 69
    """The broker did not answer at the start, or did not acknowledge later; or a store did not."""
    FAILED = 70
    """Something went wrong that nobody foresaw; the log has the traceback."""
    PAUSED = 73
    """It stood still for so long that another worker may own its partitions."""
    STORAGE_FULL = 74
    """A disk that it writes to is full."""
    STALLED = 75
    """The watchdog ended it: nothing moved although something waited."""
    MISCONFIGURED = 78
    """Settings or topics do not fit; starting again will not help."""


_CODES: tuple[tuple[type[NextwatchError] | tuple[type[NextwatchError], ...], ExitCode], ...] = (
    ((BrokerUnavailable, IndexUnavailable, StoreUnavailable), ExitCode.BROKER_AWAY),
    (WorkerPausedError, ExitCode.PAUSED),
    (StorageFull, ExitCode.STORAGE_FULL),
    (ContractError, ExitCode.MISCONFIGURED),
    ((StackError, DatasetError), ExitCode.UNDONE),
)


def code_of(error: BaseException) -> ExitCode:
    """Return the exit code for *error*."""
    if is_storage_full(error):
        return ExitCode.STORAGE_FULL
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), ExitCode.FAILED)


def is_storage_full(error: BaseException) -> bool:
    """Return whether *error* is a full disk; RocksDB and shutil report it only in words."""
    return (isinstance(error, OSError) and error.errno in _FULL) or _FULL_WORDS in str(error)


def error_of_file(error: OSError) -> NextwatchError | None:
    """Return *error* as one line with its remedy; None if it is not about disks and rights."""
    place = error.filename or "a file"
    if isinstance(error, shutil.Error):  # of a copy of many files; the first one says enough
        place = error.args[0][0][1]
    if is_storage_full(error):
        reason = error.strerror or _FULL_WORDS
        return StorageFull(f"{place}: {reason}: make room there and start again")
    if error.errno in _UNWRITABLE:
        return ContractError(
            f"{place}: {error.strerror}: let this user write there, or name another place"
        )
    return None


@contextmanager
def told_in_one_line(program: str) -> Iterator[None]:
    """End the process with one line and its exit code on an error that a person can mend.

    Notes that were added to the error follow it, a line each.

    Any other error ends it with its traceback and `ExitCode.FAILED`.
    """
    try:
        yield
    except NextwatchError as error:
        _end(program, error, error)
    except Exception as error:  # noqa: BLE001 - the outermost frame: it tells the error and ends
        _end(program, error, error_of_file(error) if isinstance(error, OSError) else None)


def _end(program: str, error: Exception, told: NextwatchError | None) -> None:
    if told is None:
        traceback.print_exception(error)
    else:
        notes = getattr(error, "__notes__", ())
        sys.stderr.write("\n".join([f"{program}: {told}", *notes]) + "\n")
    raise SystemExit(int(code_of(told or error))) from error
