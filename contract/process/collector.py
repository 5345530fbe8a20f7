"""Let Python's garbage collector rest while millions of objects are made that are in no cycle."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collector() -> Iterator[None]:
    """Hold the collector during the block, as it looks at every object again and finds nothing.

    What is in no cycle is freed as always, by its count of references.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
