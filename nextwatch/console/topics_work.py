"""Read whole topics for a page, one page's request at a time.

Such a reading takes a second and more, so it happens in a thread, and further requests wait, but
not for ever: the broker and this process have other work, too.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

from contract.errors import NextwatchError
from contract.process.settings import KafkaSettings
from nextwatch.gateway.problems import unavailable
from nextwatch.operate.scan import Scan

TURN_WITHIN_S = 20.0

R = TypeVar("R")


class TopicsWork:
    """Runs work that reads the topics of *kafka*."""

    def __init__(self, kafka: KafkaSettings, *, turn_within_s: float = TURN_WITHIN_S) -> None:
        self.kafka = kafka
        self._turn_within_s = turn_within_s
        self._turn = asyncio.Semaphore(1)

    async def __call__(self, work: Callable[[Scan], R]) -> R:
        """Return what *work* returns, which is given a scan.

        Raises:
            Problem: other readings take long, Kafka does not answer, a topic is missing, or a
                record cannot be read.
        """
        try:
            async with asyncio.timeout(self._turn_within_s):
                await self._turn.acquire()
        except TimeoutError:
            raise unavailable("busy", "the topics are being read for another request") from None
        try:
            return await run_in_threadpool(work, Scan(self.kafka, monotonic=monotonic))
        except NextwatchError as error:
            raise unavailable("kafka", str(error)) from error
        finally:
            self._turn.release()
