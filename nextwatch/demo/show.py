"""Run the demo once: start, feed, watch, wait for the last answers.

One rule: whatever ends it, the figures up to then can still be told.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic, sleep

from contract.errors import NextwatchError, StackError
from contract.process.clock import Clock
from nextwatch.demo.age import process_age_s
from nextwatch.demo.boot import LOOK_EVERY_S, boot, wait_until
from nextwatch.demo.checklist import Checklist
from nextwatch.demo.console import DemoConsole
from nextwatch.demo.display import Display
from nextwatch.demo.feed import DemoFeed
from nextwatch.demo.figures.report import Course, Report, Uploads, report
from nextwatch.demo.figures.tally import Tally
from nextwatch.demo.figures.usage import Usage
from nextwatch.demo.interruption import Interruption
from nextwatch.demo.observer import Observer
from nextwatch.demo.panel import line, panel
from nextwatch.embedded.process.process import Child
from nextwatch.embedded.stack import EmbeddedStack
from nextwatch.given_broker import told_of_option


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a step at the end of a run may take, without and after Ctrl-C."""

    orderly_s: float
    hurried_s: float


FEED_STOP = Patience(10.0, 0.5)
ANSWERS = Patience(10.0, 0.3)
QUIET = Patience(0.5, 0.1)  # so long no event is seen any more


class Show:
    """One run of the demo; the caller stops the stack. Without *seconds* it runs until stopped.

    With *bootstrap_servers* the stack uses a Kafka that a person has named.
    """

    def __init__(  # noqa: PLR0913 - composition by keyword
        self,
        stack: EmbeddedStack,
        screen: Display,
        checklist: Checklist,
        interruption: Interruption,
        *,
        rate: float,
        seconds: float | None,
        clock: Clock,
        bootstrap_servers: str | None = None,
        console: DemoConsole | None = None,
    ) -> None:
        self.stack = stack
        self.screen = screen
        self.checklist = checklist
        self.interruption = interruption
        self.rate = rate
        self.most_s = seconds
        self.clock = clock
        self.bootstrap_servers = bootstrap_servers
        self.console = console
        self.failure: Exception | None = None
        self.has_waited = False
        self.startup_s: float | None = None
        self.seconds = 0.0
        self._observer: Observer | None = None
        self._events: Child | None = None
        self._usage = Usage(self._pids)

    def run(self, feed: DemoFeed) -> None:
        """Show the run to its end; its failure is in `failure`, for the caller to raise."""
        try:
            with told_of_option(self.bootstrap_servers):
                self._run(feed)
        except Exception as error:  # noqa: BLE001 - whatever it was, the figures are told first
            self._fail(error)
        except KeyboardInterrupt:
            self.stack.kill()
        finally:
            if self.console is not None:
                self.console.stop()
            if self._observer is not None:
                self._observer.stop()

    def figures(self) -> Report:
        """Return the present figures."""
        course = Course(
            startup_s=self.startup_s,
            rate=self.rate,
            seconds=self.seconds,
            broker=self.stack.broker_name,
            restarts=self.stack.restarts,
            memory_mb=self._usage.memory_mb,
            cpu_percent=self._usage.cpu_percent(),
            is_interrupted=self.interruption.asked.is_set(),
            has_waited=self.has_waited,
            error=None if self.failure is None else _first_line(self.failure),
        )
        if self._observer is None:
            return report(Tally(), Uploads(), course, now_ms=self.clock())
        return self._observer.report(course)

    def _run(self, feed: DemoFeed) -> None:
        if self.console is not None:
            self.console.prepare()
        booted = boot(self.stack, feed, self.checklist, clock=self.clock, tick=self._while_booting)
        observer, events = booted.observer, booted.events
        self._observer, self._events = observer, events
        booted.open_gate(self.clock)
        self._await_first_recommendation(observer, events)
        self._serve_console(observer)
        self.screen.keep(self.checklist.table())
        self.interruption.is_orderly = True
        try:
            self._watch(observer, events)
        finally:
            self._usage.finish(monotonic())
        self._stop_feed(events)
        self._await_answers(observer)
        self._draw(observer, is_last=True)

    def _await_first_recommendation(self, observer: Observer, events: Child) -> None:
        def is_there() -> bool:
            self.stack.check()
            observer.check()
            if has_failed(events):
                raise StackError(events.exit_report())
            return observer.tally.first_recommendation_ms is not None

        wait_until(
            is_there,
            self._while_booting,
            "there is no recommendation yet",
            stack=self.stack,
        )
        ago_ms = self.clock() - (observer.tally.first_recommendation_ms or 0)
        self.startup_s = process_age_s(self.clock) - ago_ms / 1000
        self.checklist.done("recommendation")

    def _serve_console(self, observer: Observer) -> None:
        if self.console is not None:
            self.console.start(self.stack, observer, self.figures, self.clock)
            self.checklist.notes["console"] = self.console.url
            self.checklist.done("console")

    def _watch(self, observer: Observer, events: Child) -> None:
        """Show how it goes until the time is up, the feed is at its end, or somebody stops it."""
        started_s = now_s = monotonic()
        while self.most_s is None or now_s - started_s < self.most_s:
            self._usage.sample(now_s)
            self.stack.check()
            observer.check()
            if self.screen.is_due:
                self._draw(observer)
            if not events.is_running or self.interruption.asked.wait(0.1):
                break
            now_s = monotonic()
            self.seconds = now_s - started_s

    def _stop_feed(self, events: Child) -> None:
        """Let the feed finish what it sent; one that failed is the failure of the run."""
        started_s = monotonic()
        has_ended_itself = not events.is_running
        events.terminate()
        while not events.wait_ended(LOOK_EVERY_S):
            if self._is_late(started_s, FEED_STOP):
                events.kill()
        if has_failed(events) and (has_ended_itself or not self.interruption.asked.is_set()):
            self._fail(StackError(events.exit_report()))

    def _await_answers(self, observer: Observer) -> None:
        started_s = quiet_since_s = monotonic()
        num_seen = -1
        while not self._is_late(started_s, ANSWERS):
            self.stack.check()
            observer.check()
            with observer.lock:
                ledger = observer.tally.ledger
                num_waiting = ledger.num_owed + observer.probe.num_waiting
                num_sent = ledger.num_sent
            if num_sent != num_seen:
                num_seen, quiet_since_s = num_sent, monotonic()
            if not num_waiting and self._is_late(quiet_since_s, QUIET):
                break
            sleep(LOOK_EVERY_S)
        self.has_waited = not self.interruption.asked.is_set()

    def _is_late(self, since_s: float, patience: Patience) -> bool:
        is_hurried = self.interruption.asked.is_set()
        return monotonic() - since_s >= (patience.hurried_s if is_hurried else patience.orderly_s)

    def _while_booting(self) -> None:
        self.screen.show(self.checklist.table)

    def _draw(self, observer: Observer, *, is_last: bool = False) -> None:
        figures, now_ms = self.figures(), self.clock()
        with observer.lock:
            self.screen.show(
                lambda: panel(figures, observer.tally, now_ms=now_ms),
                lambda: line(figures, observer.tally, now_ms=now_ms),
                is_last=is_last,
            )

    def _fail(self, error: Exception) -> None:
        self.failure = self.failure or error  # the first one is the cause

    def _pids(self) -> Mapping[str, int]:
        running = {child.name: child.pid for child in self.stack.children if child.is_running}
        if self._events is not None and self._events.is_running:
            running["feed"] = self._events.pid
        return running | {"demo": os.getpid()}


def _first_line(error: Exception) -> str:
    text = str(error) if isinstance(error, NextwatchError) else repr(error)
    return text.splitlines()[0]


def has_failed(events: Child) -> bool:
    """Return whether the feed ended with an error."""
    return events.exit_code not in (None, 0)
