"""Run an embedded stack with an audience, and the console of the demo beside it."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import monotonic

from benchmarks.stack.waiting import eventually
from contract.process.clock import system_clock
from contract.process.settings import QdrantSettings, load
from nextwatch.console.listening import listen
from nextwatch.demo.console import DemoConsole
from nextwatch.demo.feed import LABEL_WINDOW_MS
from nextwatch.demo.figures.report import Course, Report
from nextwatch.demo.figures.usage import Usage
from nextwatch.demo.observer import Observer
from nextwatch.embedded.process.process import Child
from nextwatch.embedded.stack import EmbeddedStack

START_WITHIN_S = 180.0
_LOADED_WITHIN_S = 120.0


@dataclass(frozen=True)
class ConsoleRig:
    """A stack that serves, and the address of its console."""

    stack: EmbeddedStack
    observer: Observer
    url: str


@contextmanager
def running_rig(*, rate: float, publish_every_s: float = 10.0) -> Iterator[ConsoleRig]:
    """Yield a rig with a catalogue, *rate* events/s and a generation in service."""
    env_of = {"trainer": {"NEXTWATCH_TRAINER_LABEL_WINDOW_MS": str(LABEL_WINDOW_MS)}}
    with ExitStack() as ending:
        stack = EmbeddedStack(os.environ, publish_every_s=publish_every_s, env_of=env_of)
        ending.callback(stack.stop)
        stack.start(START_WITHIN_S)
        observer = Observer(stack.kafka, load(QdrantSettings, stack.env), system_clock)
        ending.callback(observer.stop)
        console = DemoConsole(listen(0))
        ending.callback(console.stop)
        console.prepare()
        observer.start()
        catalogue = _simulate(stack, "catalogue", "--catalogue-only")
        assert catalogue.wait_ended(_LOADED_WITHIN_S), catalogue.log_tail()
        observer.tally.feed_started_ms = system_clock()
        _simulate(stack, "feed", "--no-catalogue", "--rate", f"{rate:g}")
        is_up = eventually(
            lambda: observer.tally.generation and observer.tally.first_recommendation_ms,
            within_s=START_WITHIN_S,
        )
        assert is_up, stack.process("trainer").log_tail()
        console.start(stack, observer, _report_of(stack, observer, rate), system_clock)
        yield ConsoleRig(stack, observer, console.url)


def _simulate(stack: EmbeddedStack, name: str, *options: str) -> Child:
    return stack.add_process(name, [sys.executable, "-m", "nextwatch", "simulate", *options])


def _report_of(stack: EmbeddedStack, observer: Observer, rate: float) -> Callable[[], Report]:
    began_s = monotonic()
    usage = Usage(lambda: {c.name: c.pid for c in stack.children if c.is_running})

    def report() -> Report:
        usage.sample(monotonic())
        return observer.report(
            Course(
                startup_s=None,
                rate=rate,
                seconds=monotonic() - began_s,
                broker=stack.broker_name,
                restarts=stack.restarts,
                memory_mb=usage.memory_mb,
                cpu_percent=usage.cpu_percent(),
            )
        )

    return report
