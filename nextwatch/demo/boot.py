"""Start the system up to the point where it waits for its first event."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from contract.errors import StackError
from contract.process.clock import Clock
from contract.process.settings import QdrantSettings, load
from nextwatch.demo.checklist import Checklist
from nextwatch.demo.feed import DemoFeed
from nextwatch.demo.observer import Observer
from nextwatch.embedded.process.process import Child
from nextwatch.embedded.stack import EmbeddedStack

TIMEOUT_S = 60.0
LOOK_EVERY_S = 0.02

Tick = Callable[[], None]
"""Called again and again while waiting: draws, and raises when somebody wants to stop."""


@dataclass(frozen=True, slots=True)
class Booted:
    """A system that is up: its observer, its feed, and the gate that the feed waits at."""

    observer: Observer
    events: Child
    gate: Path

    def open_gate(self, clock: Clock) -> None:
        """Let the feed begin; later uploads do not count as catalogue."""
        self.observer.tally.feed_started_ms = clock()
        self.gate.touch()


def boot(
    stack: EmbeddedStack, feed: DemoFeed, checklist: Checklist, *, clock: Clock, tick: Tick
) -> Booted:
    """Start *stack*, load the catalogue of *feed*, and wait for the first bundle in service.

    Raises:
        StackError: something ended, or took longer than `TIMEOUT_S`; with its last words.
    """
    gate = stack.directory / "feed.gate"
    has_topics = stack.directory / "catalogue.gate"
    for file in (gate, has_topics):
        file.unlink(missing_ok=True)
    stack.launch()
    catalogue = stack.add_process("catalogue", feed.catalogue(has_topics))
    events = stack.add_process("feed", feed.events(gate))
    stack.await_storage()
    has_topics.touch()
    checklist.notes.update(feed.notes)
    stack.start_workers(feed.first_workers)
    observer = Observer(stack.kafka, load(QdrantSettings, stack.env), clock)
    observer.start()
    wait_until(
        lambda: _has_catalogue(stack, catalogue, observer, checklist),
        tick,
        "the catalogue is not loaded",
        stack=stack,
    )
    stack.start_workers()
    wait_until(
        lambda: _is_up(stack, observer, checklist), tick, "the system is not ready", stack=stack
    )
    stack.supervise()
    return Booted(observer, events, gate)


def wait_until(
    is_so: Callable[[], bool],
    tick: Tick,
    otherwise: str,
    *,
    stack: EmbeddedStack,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Wait until *is_so*, and *tick* meanwhile.

    Raises:
        StackError: it was not so within *timeout_s*: what is *otherwise*, and whether the disk of
            *stack* is full.
    """
    deadline_s = monotonic() + timeout_s
    while not is_so():
        tick()
        if monotonic() > deadline_s:
            cause = f": {stack.shortage}" if stack.shortage else ""
            raise StackError(f"{otherwise} after {timeout_s:.0f} s{cause}")
        sleep(LOOK_EVERY_S)


def _has_catalogue(
    stack: EmbeddedStack, catalogue: Child, observer: Observer, checklist: Checklist
) -> bool:
    stack.waiting()
    observer.check()
    if catalogue.is_running:
        return False
    if catalogue.exit_code != 0:
        raise StackError(catalogue.exit_report())
    if not observer.tally.num_catalogue:
        return False
    checklist.notes["catalogue"] = f"{observer.tally.num_catalogue} videos"
    checklist.done("catalogue")
    return True


def _is_up(stack: EmbeddedStack, observer: Observer, checklist: Checklist) -> bool:
    observer.check()
    num_waiting = len(stack.waiting())
    if observer.tally.generation:
        checklist.done("bundle")
    return num_waiting == 0 and observer.tally.generation > 0
