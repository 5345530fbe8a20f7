"""Give memory back to the system that a process has freed and its allocator keeps.

These are functions of glibc; with another allocator they do nothing.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_APART_BYTES = 128 << 10
"""From this size on, blocks are mapped one by one in `mapped_apart`."""
_MOST_INT = 2**31 - 1
_MOST_TOGETHER_BYTES = 32 << 20
"""The size up to which glibc takes blocks from its heap once it has seen them come and go."""


def _glibc(name: str, *argtypes: Any) -> Callable[..., object]:
    """Return a function of glibc; elsewhere one that does nothing."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return lambda *_given: 0
    function.argtypes = argtypes
    return function  # type: ignore[no-any-return]


_malloc_trim = _glibc("malloc_trim", ctypes.c_size_t)
_mallopt = _glibc("mallopt", ctypes.c_int, ctypes.c_int)
_lock = threading.Lock()
_num_apart = 0


def give_back_memory() -> None:
    """Give the free pages of the heap back to the system, also those between used ones.

    glibc gives back by itself only what is free at the end of the heap. Where large arrays come and
    go, each a little larger than the last, the holes that they leave fit none of them.
    """
    _malloc_trim(0)


@contextmanager
def mapped_apart() -> Iterator[None]:
    """Map each large block that is made meanwhile by itself, so that freeing it leaves no hole.

    For what is made now and then, and each time a little larger than the last: copies, files and
    tables of a generation. What fits into a hole that there is still goes there. The kernel zeroes
    such a block page by page, so that this is not for what each batch computes. All threads are
    affected, and blocks may overlap.
    """
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(change: int) -> None:
    global _num_apart  # noqa: PLW0603 - the allocator belongs to the process
    with _lock:
        _num_apart += change
        together = min(_given("MALLOC_MMAP_THRESHOLD_", _MOST_TOGETHER_BYTES), _MOST_TOGETHER_BYTES)
        apart = min(_APART_BYTES, together)
        _mallopt(_M_MMAP_THRESHOLD, apart if _num_apart else together)
        # Once a threshold is set, glibc no longer raises the other to twice as much by itself, and
        # would give back to the system, and ask for again, what each batch computes.
        trim = _given("MALLOC_TRIM_THRESHOLD_", 2 * _MOST_TOGETHER_BYTES)
        _mallopt(_M_TRIM_THRESHOLD, min(trim, _MOST_INT))


def _given(variable: str, default: int) -> int:
    """Return the bytes of a setting of glibc."""
    given = os.environ.get(variable, "")
    return int(given) if given.isdecimal() else default
