"""Kills that the page of an operator asks for: each process recovers from one at a time."""

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace

import httpx
from starlette.applications import Starlette

from benchmarks.stack.waiting import eventually
from contract.process.clock import ManualClock
from contract.process.settings import KafkaSettings
from nextwatch.console.operator.faults import Faults
from nextwatch.console.operator.page import OperatorPage
from nextwatch.console.topics_work import TopicsWork
from nextwatch.gateway.problems import Problem, answer_problem
from tests.support.builders import T0


@dataclass
class FakeChild:
    """A process that comes back when it is told to."""

    name: str
    pid: int = 100
    is_running: bool = True
    num_kills: int = 0
    plan: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(ready_file=None))

    def kill(self, *, is_wanted):
        assert is_wanted
        self.num_kills += 1
        self.is_running = False

    def is_ready(self):
        return self.is_running

    def come_back(self):
        self.pid, self.is_running = self.pid + 1, True


class FakeStack:
    def __init__(self):
        self.children = [FakeChild("streams"), FakeChild("trainer"), FakeChild("broker")]
        self.restarts = {}
        self.status_urls = {}

    def process(self, name):
        return next(child for child in self.children if child.name == name)


def page_of(faults):
    """Return the page as an application that can be asked without a server."""
    page = OperatorPage(
        *(None, TopicsWork(KafkaSettings()), None, faults, None),
        erase_within_s=1.0,
        clock=ManualClock(T0),
        is_over=asyncio.Event(),
    )
    return Starlette(routes=page.routes(), exception_handlers={Problem: answer_problem})


async def answers(app, paths):
    """Post to all *paths* at once."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://console") as client:
        return await asyncio.gather(*(client.post(path) for path in paths))


def recoveries():
    return [one for one in threading.enumerate() if one.name.startswith("console-recovery")]


def test_of_forty_kills_at_once_one_is_done_and_the_others_say_when_to_ask_again():
    """Each waited in the server's pool for the recovery, and nothing else was answered."""
    stack = FakeStack()
    app = page_of(Faults(stack, ManualClock(T0)))

    found = asyncio.run(answers(app, ["/console/faults/streams"] * 40))

    assert Counter(one.status_code for one in found) == {202: 1, 409: 39}
    refused = next(one for one in found if one.status_code == 409)
    assert "once it is ready" in refused.json()["detail"]
    assert stack.process("streams").num_kills == 1
    assert len(recoveries()) == 1
    stack.process("streams").come_back()
    assert eventually(lambda: not recoveries())


def test_a_process_that_is_ready_again_can_be_killed_again():
    stack = FakeStack()
    faults = Faults(stack, ManualClock(T0))

    for count in (1, 2):
        assert faults.kill("streams")
        stack.process("streams").come_back()
        assert eventually(lambda: not recoveries())
        assert len(faults.all()) == count

    assert all(one.ready_after_ms is not None for one in faults.all())


def test_a_process_recovers_beside_another_one():
    stack = FakeStack()
    faults = Faults(stack, ManualClock(T0))

    assert faults.kill("streams")
    assert faults.kill("trainer")
    for child in stack.children:
        child.come_back()
    assert eventually(lambda: not recoveries())


def test_the_broker_is_not_killed_here():
    found = asyncio.run(
        answers(page_of(Faults(FakeStack(), ManualClock(T0))), ["/console/faults/broker"])
    )

    assert found[0].status_code == 422
