"""How a streams worker ends, as a number for whoever supervises it.

The codes are those of ``sysexits.h`` where it has a fitting one. Only 78 needs a person;
after every other one the next start continues where the acknowledged offsets stand.
"""

from enum import IntEnum

from contract.errors import BrokerUnavailable, ContractError, WorkerPausedError


class ExitCode(IntEnum):
    """What an exit code of a streams worker says."""

    STOPPED = 0
    """It was asked to stop and left everything in order."""
    BROKER_AWAY = 69
    """The broker did not answer at the start, or did not acknowledge later."""
    FAILED = 70
    """Something went wrong that nobody foresaw; the log has the traceback."""
    PAUSED = 73
    """It stood still for so long that another worker may own its partitions."""
    STALLED = 75
    """The watchdog ended it: nothing moved although something waited."""
    MISCONFIGURED = 78
    """Settings or topics do not fit; starting again will not help."""


def code_of(error: BaseException) -> ExitCode:
    """Return the code that tells *error* to a supervisor."""
    if isinstance(error, BrokerUnavailable):
        return ExitCode.BROKER_AWAY
    if isinstance(error, WorkerPausedError):
        return ExitCode.PAUSED
    if isinstance(error, ContractError):
        return ExitCode.MISCONFIGURED
    return ExitCode.FAILED
