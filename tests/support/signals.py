"""Ctrl-C for the programs that a test starts."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def children_that_hear_ctrl_c() -> Iterator[None]:
    """Start children that do not ignore SIGINT.

    A job in the background ignores it, and hands that down to whatever it starts.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
