"""The tasks in the background, as the worker hears of them."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import monotonic

from index_sync.background import Background


def test_the_end_waits_for_what_was_begun():
    done = []
    with ThreadPoolExecutor(1) as pool:
        background = Background(pool.submit)
        background.open(None, lambda: Event().wait(0.2))
        background.run(lambda: done.append("dropped"))
        background.wait_for_all(within_s=10)
        assert done == ["dropped"]


def test_the_end_does_not_wait_longer_for_a_store_that_does_not_answer():
    """A worker that has failed tells why after it; nobody else ends this one."""
    is_over = Event()
    with ThreadPoolExecutor(1) as pool:
        background = Background(pool.submit)
        background.open(None, is_over.wait)
        started_s = monotonic()
        background.wait_for_all(within_s=0.1)
        waited_s = monotonic() - started_s
        is_over.set()
    assert waited_s < 5
