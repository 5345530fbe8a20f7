"""Become another program that cannot outlive the thread which started it.

Run as a file, not imported: ``python -I -S die_with_parent.py PARENT_PID NICENESS PROGRAM ARG...``.
It stays the same process. On Linux the kernel then sends SIGKILL to it as soon as its parent
is gone, even when the parent had no time to say goodbye. Elsewhere there is no such call, and
a parent that is killed leaves its children behind.

It is a program of its own because the other way, code between fork and exec, can deadlock in
a parent that has threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent ends."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    if sys.argv[2] != "0":
        os.nice(int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606 - the very purpose; the parent wrote the arguments
