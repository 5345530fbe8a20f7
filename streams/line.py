"""A production line: each step in a thread of its own, whatever goes in stays in its order.

While one batch waits for the index, the next is folded and the one before is delivered: what
a step waits for, or computes without the interpreter's lock, costs the others nothing. Only so
many batches are under way at once: more would wait for each other, while the events of the
next one had better wait together.
"""

from collections.abc import Callable, Sequence
from queue import Queue
from threading import BoundedSemaphore, Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class Line(Generic[T]):
    """Runs *steps*, one after the other, on everything that is put in."""

    def __init__(
        self,
        steps: Sequence[tuple[str, Callable[[T], T]]],
        on_failure: Callable[[BaseException], None],
        *,
        max_batches: int,
        on_done: Callable[[], None],
    ) -> None:
        self._on_failure = on_failure
        self._on_done = on_done
        self._places = BoundedSemaphore(max_batches)
        self._queues: list[Queue[T]] = [Queue() for _ in steps]
        for number, (name, step) in enumerate(steps):
            Thread(target=self._work, args=(number, step), name=name, daemon=True).start()

    def put(self, batch: T) -> None:
        """Start *batch* on its way; wait while as many as may be are under way."""
        self._places.acquire()
        self._queues[0].put(batch)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is under way."""
        return not any(queue.unfinished_tasks for queue in self._queues)

    def drain(self) -> None:
        """Wait until everything that was put in is through all steps."""
        for queue in self._queues:
            queue.join()

    def _work(self, number: int, step: Callable[[T], T]) -> None:
        queue, followers = self._queues[number], self._queues[number + 1 :]
        while True:
            batch = queue.get()
            try:
                done = step(batch)
            except BaseException as error:  # noqa: BLE001 - the thread's outermost frame
                self._on_failure(error)
                return  # nothing that failed counts as done: `drain` never returns
            if followers:
                followers[0].put(done)
            else:
                self._places.release()
            queue.task_done()
            if not followers:
                self._on_done()
