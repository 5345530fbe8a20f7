"""Measure the age of this process, which includes the start of the interpreter."""

import os
import sys
import time
from pathlib import Path

import psutil

from contract.process.clock import Clock

_START_TICKS = 22  # the field of /proc/self/stat, counted from 1


def process_age_s(clock: Clock) -> float:
    """Return the seconds since this process was started.

    On Linux from the kernel's own monotonic clock: the start time as psutil tells it is off by
    up to a second there, because the boot time it adds is kept in whole seconds.
    """
    if not sys.platform.startswith("linux"):
        return clock() / 1000 - psutil.Process().create_time()
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started_ticks = int(after_name[_START_TICKS - 3])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")
