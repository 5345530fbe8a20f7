"""What is slow keeps nothing else back, and what anybody may add is bounded."""

import asyncio
import threading
import time

import pytest

from contract.process.clock import ManualClock
from contract.process.settings import KafkaSettings, QdrantSettings
from nextwatch.console.creator.uploads import MOST, TimedUploads
from nextwatch.console.operator.figures import Figures
from nextwatch.console.topics_work import TopicsWork
from nextwatch.demo.figures.report import Course
from nextwatch.demo.observer import Observer
from nextwatch.gateway.problems import Problem
from tests.support.builders import T0

KAFKA = KafkaSettings(bootstrap_servers="127.0.0.1:9")
MOMENT_S = 0.2


class SilentBroker:
    """A reader of lag that a broker does not answer, until *answer* is set."""

    def __init__(self):
        self.answer = threading.Event()

    def read(self):
        self.answer.wait(10)
        return []

    def close(self):
        assert self.answer.is_set(), "closed while it is asked"


def test_a_broker_that_does_not_answer_keeps_no_figures_back():
    observer, broker = Observer(KAFKA, QdrantSettings(), ManualClock(T0)), SilentBroker()
    course = Course(startup_s=None, rate=0.0, seconds=1.0)
    figures = Figures(observer, lambda: observer.report(course), broker, None, ManualClock(T0))

    began_s = time.monotonic()
    told = [asyncio.run(figures.look()) for _ in range(3)]
    passed_s = time.monotonic() - began_s
    figures.close()
    broker.answer.set()

    assert [one.lag for one in told] == [[], [], []]
    assert passed_s < 5


def test_whoever_waits_for_a_long_reading_is_told_so():
    """An erasure may take half a minute; a broker that is away makes each reading long."""

    async def test():
        work, is_over = TopicsWork(KAFKA, turn_within_s=MOMENT_S), threading.Event()
        first = asyncio.create_task(work(lambda _scan: is_over.wait(10)))
        await asyncio.sleep(0.05)
        with pytest.raises(Problem, match="for another request"):
            await work(lambda _scan: None)
        is_over.set()
        return await first, await work(lambda _scan: "next")

    assert asyncio.run(test()) == (True, "next")


def test_the_end_of_the_console_answers_readings_in_progress_within_a_moment():
    """A broker that does not answer holds a reading up for 15 s; what waits for it, longer."""

    async def test():
        work, hold = TopicsWork(KAFKA), threading.Event()
        asked = [asyncio.create_task(work(lambda _scan: hold.wait(10))) for _ in range(2)]
        await asyncio.sleep(0.05)
        began_s = time.monotonic()
        work.close()
        found = await asyncio.gather(*asked, return_exceptions=True)
        late = await asyncio.gather(work(lambda _scan: None), return_exceptions=True)
        hold.set()
        return [*found, *late], time.monotonic() - began_s

    found, passed_s = asyncio.run(test())

    assert [problem.details.type for problem in found] == ["urn:nextwatch:problem:ending"] * 3
    assert passed_s < 2


def test_a_reading_keeps_its_turn_although_its_request_was_cancelled():
    """A viewer who goes cancels the reading of the history; its thread still asks the broker."""

    async def test():
        work, hold = TopicsWork(KAFKA, turn_within_s=MOMENT_S), threading.Event()
        first = asyncio.create_task(work(lambda _scan: hold.wait(10)))
        await asyncio.sleep(0.05)
        first.cancel()
        with pytest.raises(Problem, match="for another request"):
            await work(lambda _scan: None)
        hold.set()
        await asyncio.sleep(0.05)
        return await work(lambda _scan: "next")

    assert asyncio.run(test()) == "next"


def test_no_more_videos_are_followed_however_many_are_taken_down():
    uploads = TimedUploads(None, lambda: None, ManualClock(T0))
    for number in range(2 * MOST):
        uploads.remove(f"v{number}")

    assert [one.video_id for one in uploads.all()] == [
        f"v{number}" for number in reversed(range(MOST, 2 * MOST))
    ]
