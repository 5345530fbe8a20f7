"""Read whole topics for a page, one page's request at a time.

Such a reading takes a second and more, so it happens in a thread, and further requests wait: the
broker and this process have other work, too.
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

R = TypeVar("R")


class TopicsWork:
    """Runs work that reads the topics of *kafka*."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.kafka = kafka
        self._turn = asyncio.Semaphore(1)

    async def __call__(self, work: Callable[[Scan], R]) -> R:
        """Return what *work* returns, which is given a scan.

        Raises:
            Problem: Kafka does not answer, a topic is missing, or a record cannot be read.
        """
        async with self._turn:
            try:
                return await run_in_threadpool(work, Scan(self.kafka, monotonic=monotonic))
            except NextwatchError as error:
                raise unavailable("kafka", str(error)) from error
