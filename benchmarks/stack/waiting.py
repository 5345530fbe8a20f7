"""Wait until a condition holds, for tests and benchmarks."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(find: Callable[[], T], *, within_s: float = 15.0, every_s: float = 0.05) -> T:
    """Return the first true value of *find*; the last one when there was none in time."""
    deadline = time.monotonic() + within_s
    while not (found := find()) and time.monotonic() < deadline:
        time.sleep(every_s)
    return found
