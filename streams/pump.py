"""Between Faust's event loop and the threads that do the work.

Records queue up in a bounded inbox; whenever the first step is free, everything that waits
(up to a bound) is the next micro-batch. So a lone event waits for nothing, and under load the
batches grow by themselves.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol, TypeVar

from contract.records import Received
from contract.topics import IMPRESSIONS
from streams.batches import Batch
from streams.line import Line

T = TypeVar("T")

MAX_UNDER_WAY = 3
"""Batches between folded and acknowledged."""

OVERLAP_FROM = 16
"""So many records start a batch while others are under way; fewer wait until the line is empty.
A batch costs some milliseconds however small it is: overlapping batches of two events use up both
processors at 300 events/s (measured)."""

ALONE_BELOW = 4
"""So few records go through all steps in one thread: three changes of thread cost a lone event
2 ms (28 to 25.6 ms at 100 events/s, measured side by side)."""

LINGER_S = 0.1
"""For so long impressions alone start no batch: nobody waits for them, they go with the next event."""


class Steps(Protocol):
    """What is done to micro-batches; `streams.batches.BatchProcessor` does it."""

    def fold(self, records: Sequence[Received]) -> Batch:
        """Do the first step."""
        ...

    def search(self, batch: Batch) -> Batch:
        """Do the second step."""
        ...

    def send(self, batch: Batch) -> Batch:
        """Do the third step."""
        ...

    def settle(self, batch: Batch) -> Batch:
        """Do the last step."""
        ...

    def is_suspect(self) -> bool:
        """Say whether there is something to heal."""
        ...

    def heal(self) -> None:
        """Heal it."""
        ...


class Pump:
    """Starts one micro-batch after another; the last steps of one overlap with the next."""

    def __init__(
        self,
        steps: Steps,
        on_failure: Callable[[BaseException], None],
        *,
        max_batch: int,
        heal_every_s: float,
    ) -> None:
        self._steps = steps
        self._max_batch = max_batch
        self._heal_every_s = heal_every_s
        self._inbox: deque[Received] = deque()
        self._changed = asyncio.Event()
        self._room = threading.Event()
        self._room.set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fold")
        self._line = Line(
            [("search", steps.search), ("send", steps.send), ("settle", steps.settle)],
            on_failure,
            max_batches=MAX_UNDER_WAY,
            on_done=self._tell_from_outside,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopping = False

    def has_room(self, *, within_s: float) -> bool:
        """Return whether the inbox holds less than starts a batch, as soon as it does."""
        return self._room.wait(within_s)

    def put(self, records: Sequence[Received]) -> None:
        """Take *records* into the inbox."""
        self._inbox.extend(records)
        self._tell()

    async def run(self) -> None:
        """Process batches until `stop`; what a step raises ends it."""
        self._loop = asyncio.get_running_loop()
        while not self._is_stopping:
            if not await self._wait_for_records():
                await self._heal_if_suspect()
                continue
            await self._linger()
            while len(self._inbox) < OVERLAP_FROM and not (
                self._line.is_empty or self._is_stopping
            ):
                await self._change()
            await self._heal_if_suspect()
            batch = [self._inbox.popleft() for _ in range(min(self._max_batch, len(self._inbox)))]
            self._tell()
            if batch and not self._is_stopping:
                await self._run(lambda batch=batch: self._start(batch))  # type: ignore[misc]

    async def _heal_if_suspect(self) -> None:
        if self._steps.is_suspect():
            await self.in_thread(self._steps.heal)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run *work* in the thread of the first step, while no batch is at any other step."""

        def drained() -> T:
            self._line.drain()
            return work()

        return await self._run(drained)

    def clear(self) -> None:
        """Forget what waits; it was not acknowledged and will be read again."""
        self._inbox.clear()
        self._tell()

    async def stop(self) -> None:
        """Let the batches under way end and start no other."""
        self._is_stopping = True
        self.clear()
        await self.in_thread(lambda: None)

    def _start(self, records: list[Received]) -> None:
        batch = self._steps.fold(records)
        if len(records) < ALONE_BELOW and self._line.is_empty:
            for step in (self._steps.search, self._steps.send, self._steps.settle):
                step(batch)
        else:
            self._line.put(batch)

    async def _wait_for_records(self) -> bool:
        """Return whether there are records; False when there were none for a whole while."""
        if not self._inbox and not self._is_stopping:
            try:
                async with asyncio.timeout(self._heal_every_s):
                    while not self._inbox and not self._is_stopping:
                        await self._change()
            except TimeoutError:
                return False
        return True

    async def _linger(self) -> None:
        """Wait a little while nothing but a few impressions waits."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not (self._is_stopping or self._is_due()):
                    await self._change()

    def _is_due(self) -> bool:
        is_full = len(self._inbox) >= OVERLAP_FROM
        return is_full or any(record.topic != IMPRESSIONS.name for record in self._inbox)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        if len(self._inbox) < OVERLAP_FROM:
            self._room.set()
        else:
            self._room.clear()

    def _tell_from_outside(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._tell)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
