"""Read whole topics for a page, one page's request at a time.

Such a reading takes a second and more, so it happens in a thread, and further requests wait, but
not for ever: the broker and this process have other work, too. The thread is a daemon of its own,
not one of the server's pool, which the end of the process would wait for: a broker that does not
answer holds a reading up for many seconds.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from threading import Thread
from time import monotonic
from typing import TypeVar

from contract.errors import NextwatchError
from contract.process.settings import KafkaSettings
from nextwatch.gateway.problems import Problem, unavailable
from nextwatch.operate.scan import Scan

TURN_WITHIN_S = 20.0
END_WITHIN_S = 1.0
"""After so long at the end of the console, a request whose reading is not done is answered."""

R = TypeVar("R")


class TopicsWork:
    """Runs work that reads the topics of *kafka*; one event loop asks."""

    def __init__(self, kafka: KafkaSettings, *, turn_within_s: float = TURN_WITHIN_S) -> None:
        self.kafka = kafka
        self._turn_within_s = turn_within_s
        self._turn = asyncio.Semaphore(1)
        self._waits: set[asyncio.Timeout] = set()
        self._over = asyncio.Event()

    async def __call__(self, work: Callable[[Scan], R]) -> R:
        """Return what *work* returns, which is given a scan.

        Raises:
            Problem: other readings take long, the console ends, Kafka does not answer, a topic is
                missing, or a record cannot be read.
        """
        busy = unavailable("busy", "the topics are being read for another request")
        async with self._wait(self._turn_within_s, on_timeout=busy):
            await self._turn.acquire()
        done = self._start(work)
        try:
            async with self._wait(None, on_timeout=busy):
                return await asyncio.shield(done)
        except NextwatchError as error:
            raise unavailable("kafka", str(error)) from error

    def close(self) -> None:
        """End what waits within `END_WITHIN_S`; the event loop calls this."""
        self._over.set()
        latest_s = asyncio.get_running_loop().time() + END_WITHIN_S
        for wait in self._waits:
            until_s = wait.when()
            wait.reschedule(latest_s if until_s is None else min(latest_s, until_s))

    @asynccontextmanager
    async def _wait(self, within_s: float | None, *, on_timeout: Problem) -> AsyncIterator[None]:
        """Bound what is awaited inside by *within_s*, and by the end of the console."""
        if self._over.is_set():
            raise _ending()
        try:
            async with asyncio.timeout(within_s) as wait:
                self._waits.add(wait)
                try:
                    yield
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            raise (_ending() if self._over.is_set() else on_timeout) from None

    def _start(self, work: Callable[[Scan], R]) -> asyncio.Future[R]:
        """Run *work* in a thread, which gives the turn back however its request ends."""
        loop, result = asyncio.get_running_loop(), Future[R]()

        def run() -> None:
            try:
                result.set_result(work(Scan(self.kafka, monotonic=monotonic)))
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                result.set_exception(error)
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._turn.release)

        result.set_running_or_notify_cancel()
        done = asyncio.wrap_future(result)
        done.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        Thread(target=run, name="console-topics", daemon=True).start()
        return done


def _ending() -> Problem:
    return unavailable("ending", "the console ends; what this request began may have been done")
