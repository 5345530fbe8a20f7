"""Between Faust's event loop and the one thread that does the work.

Events queue up in a bounded inbox; whenever the thread is free, everything that waits (up
to a bound) is the next micro-batch. So a lone event waits for nothing, and under load the
batches grow by themselves.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from contract.records import Position, Received

T = TypeVar("T")

Process = Callable[[list[Received]], dict[Position, int]]
SeekBack = Callable[[dict[Position, int]], Awaitable[None]]


class Pump:
    """Runs micro-batches one after another in a thread of its own."""

    def __init__(self, process: Process, seek_back: SeekBack, *, max_batch: int) -> None:
        self._process = process
        self._seek_back = seek_back
        self._max_batch = max_batch
        self._inbox: asyncio.Queue[Received] = asyncio.Queue(maxsize=2 * max_batch)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._is_stopping = False

    async def put(self, record: Received) -> None:
        """Hand over *record*, waiting while the inbox is full."""
        await self._inbox.put(record)

    async def run(self) -> None:
        """Process batches until `stop`; what `process` raises ends it."""
        while not self._is_stopping:
            batch = [await self._inbox.get()]
            while len(batch) < self._max_batch and not self._inbox.empty():
                batch.append(self._inbox.get_nowait())
            if self._is_stopping:
                return
            missing = await self.in_thread(lambda batch=batch: self._process(batch))  # type: ignore[misc]
            if missing:
                await self._seek_back(missing)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run *work* in the thread of the batches, after the one in progress."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def clear(self) -> None:
        """Forget what waits; it was not acknowledged and will be read again."""
        while not self._inbox.empty():
            self._inbox.get_nowait()

    async def stop(self) -> None:
        """Let the batch in progress end and start no other."""
        self._is_stopping = True
        self.clear()
        await self.in_thread(lambda: None)
