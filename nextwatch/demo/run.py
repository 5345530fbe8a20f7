"""The demo, from the first process to the last figure.

One rule: what is shown was measured from outside. The observer reads the topics and asks the
index like any other client; nothing is taken from the word of the processes themselves.
"""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from types import FrameType
from typing import Any
from uuid import uuid4

import typer
from rich.console import Console
from rich.markup import escape

from contract import logging
from contract.clock import Clock, system_clock
from contract.errors import StackError
from nextwatch import topics
from nextwatch.demo.age import process_age_s
from nextwatch.demo.boot import LOOK_EVERY_S, boot, wait_until
from nextwatch.demo.checklist import Checklist
from nextwatch.demo.display import Display, display
from nextwatch.demo.feed import Feed, parse
from nextwatch.demo.observer import Observer
from nextwatch.demo.panel import line, panel
from nextwatch.demo.report import Course, Report, as_json, report
from nextwatch.embedded.broker import BrokerChoice, choose_broker
from nextwatch.embedded.process import Child
from nextwatch.embedded.stack import EmbeddedStack

DRAIN_TIMEOUT_S = 10.0
FEED_STOP_S = 10.0
_QUIET_S = 0.5
_PANEL_LAST = 3_000


@dataclass(frozen=True, slots=True)
class Options:
    """What `nextwatch demo` was told; *rate* is events per second."""

    data: str | None = None
    rate: float = 50.0
    seconds: float | None = None
    is_headless: bool = False
    as_json: bool = False
    state_dir: Path | None = None
    broker: str | None = None
    bootstrap: str | None = None


class Interrupted(Exception):  # noqa: N818 - a person's wish, not an error
    """Somebody pressed Ctrl-C, or sent SIGTERM."""


def run(options: Options, environ: Mapping[str, str]) -> None:
    """Show the whole system at work, and print its figures at the end.

    Raises:
        StackError, DatasetError: it cannot be shown, with the remedy.
    """
    logging.configure("warning")
    feed = parse(options.data, rate=options.rate)
    console = Console(stderr=options.as_json)
    broker = choose_broker(environ, broker=options.broker, bootstrap_servers=options.bootstrap)
    if broker.warning:
        console.print(f"[yellow]{escape(broker.warning)}[/]", highlight=False)
    figures = None
    with (
        _interruptible() as is_over,
        display(console, is_headless=options.is_headless) as screen,
        suppress(Interrupted),
    ):
        checklist = Checklist(lambda: process_age_s(system_clock), on_done=screen.say)
        stack = EmbeddedStack(
            environ,
            state_dir=options.state_dir,
            on_step=checklist.done,
            broker=broker,
            **_settings(broker, feed),
        )
        try:
            show = Show(options, stack, screen, checklist, is_over, system_clock)
            figures = show.run(feed)
        finally:
            stack.stop()
            if broker.engine is None:
                topics.delete_all(stack.kafka)
    if figures is not None and options.as_json:
        typer.echo(as_json(figures))


def _settings(broker: BrokerChoice, feed: Feed) -> dict[str, Any]:
    """Return what *feed* needs, and what keeps the demo apart from others on a Kafka that runs."""
    if broker.engine is not None:
        return {"env_of": feed.env_of}
    run = uuid4().hex[:8]
    return {
        "env": {
            "NEXTWATCH_KAFKA_TOPIC_PREFIX": f"nextwatch-demo-{run}-",
            "NEXTWATCH_KAFKA_USER_PARTITIONS": "4",
            "NEXTWATCH_KAFKA_VIDEO_PARTITIONS": "1",
        },
        "env_of": {"streams": {"NEXTWATCH_STREAMS_APP_ID": f"nextwatch-demo-{run}"}}
        | dict(feed.env_of),
    }


class Show:
    """One run of the demo: boot, feed, watch, drain; the caller stops the stack."""

    def __init__(
        self,
        options: Options,
        stack: EmbeddedStack,
        screen: Display,
        checklist: Checklist,
        is_over: Event,
        clock: Clock,
    ) -> None:
        self.options = options
        self.stack = stack
        self.screen = screen
        self.checklist = checklist
        self.is_over = is_over
        self.clock = clock
        self.startup_s: float | None = None

    def run(self, feed: Feed) -> Report:
        """Return the figures of the run.

        Raises:
            StackError: something ended that should not have.
            Interrupted: somebody wanted to stop before there was anything to tell.
        """
        booted = boot(self.stack, feed, self.checklist, clock=self.clock, tick=self._while_booting)
        observer, events = booted.observer, booted.events
        try:
            booted.open_gate(self.clock)
            self._await_first_recommendation(observer, events)
            started_s = monotonic()
            self._watch(observer, events, started_s)
            seconds = monotonic() - started_s
            self._drain(observer, events)
            return self._tell(observer, seconds, is_last=True)
        finally:
            observer.stop()

    def _await_first_recommendation(self, observer: Observer, events: Child) -> None:
        def is_there() -> bool:
            self.stack.check()
            observer.check()
            _check_feed(events)
            return observer.tally.first_recommendation_ms is not None

        logs = self.stack.directory / "logs"
        wait_until(is_there, self._while_booting, f"the first recommendation (logs: {logs})")
        ago_ms = self.clock() - (observer.tally.first_recommendation_ms or 0)
        self.startup_s = process_age_s(self.clock) - ago_ms / 1000
        self.checklist.done("recommendation")
        self.screen.keep(self.checklist.table())

    def _watch(self, observer: Observer, events: Child, started_s: float) -> None:
        """Show how it goes until the time is up, the log is at its end, or somebody stops it."""
        most_s = self.options.seconds
        while events.is_running and not self.is_over.wait(0.1):
            elapsed_s = monotonic() - started_s
            if most_s is not None and elapsed_s >= most_s:
                return
            self.stack.check()
            observer.check()
            self._tell(observer, elapsed_s)
        _check_feed(events)

    def _drain(self, observer: Observer, events: Child) -> None:
        """Stop the feed, and wait for what is still owed, but not for ever."""
        events.stop(FEED_STOP_S)
        _check_feed(events)
        deadline_s = monotonic() + DRAIN_TIMEOUT_S
        quiet_since_s, num_seen = monotonic(), -1
        while monotonic() < deadline_s:
            self.stack.check()
            observer.check()
            with observer.lock:
                ledger = observer.tally.ledger
                num_waiting = ledger.num_owed + observer.probe.num_waiting
                num_sent = ledger.num_sent
            if num_sent != num_seen:
                num_seen, quiet_since_s = num_sent, monotonic()
            if not num_waiting and monotonic() - quiet_since_s > _QUIET_S:
                return
            sleep(LOOK_EVERY_S)

    def _while_booting(self) -> None:
        if self.is_over.is_set():
            raise Interrupted
        self.screen.show(self.checklist.table)

    def _tell(self, observer: Observer, seconds: float, *, is_last: bool = False) -> Report:
        course = Course(self.startup_s, self.options.rate, seconds, self.stack.broker_name)
        figures = report(observer, course, last=None if is_last else _PANEL_LAST)
        with observer.lock:
            self.screen.show(
                lambda: panel(figures, observer.tally, num_restarts=self.stack.num_restarts),
                lambda: line(figures, observer.tally),
                is_last=is_last,
            )
        return figures


def _check_feed(events: Child) -> None:
    """Raise if the feed ended for another reason than its end, or ours.

    Raises:
        StackError: with its last words.
    """
    if events.exit_code not in (None, 0):
        raise StackError(events.obituary())


@contextmanager
def _interruptible() -> Iterator[Event]:
    """Give an event that the first Ctrl-C or SIGTERM sets; the second one acts at once."""
    is_over = Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        is_over.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield is_over
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
