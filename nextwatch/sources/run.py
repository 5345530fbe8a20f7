"""Run both sources: settings, signals, connection, totals at the end."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import typer
from rich.console import Console

from contract.process.clock import system_clock
from contract.process.settings import KafkaSettings, load
from contract.wire.events import VideoUpload
from models.history.settings import WindowSettings
from nextwatch.datasets import kuairand, movielens
from nextwatch.datasets.log import ExposureLog
from nextwatch.simulation.audience import Audience
from nextwatch.simulation.catalogue import SyntheticCatalogue
from nextwatch.simulation.simulate import follow, outcome, simulate
from nextwatch.sources.backfill import records
from nextwatch.sources.feed import EventFeed, connect
from nextwatch.sources.pacing import LogPace, Pace
from nextwatch.sources.progress import progress
from nextwatch.sources.replay import End, replay
from nextwatch.sources.timeline import Timeline, lay_out

LIVELY_PER_MINUTE = 60
LOGS: dict[str, Callable[[Path], ExposureLog]] = {
    "kuairand": kuairand.read,
    "movielens": movielens.read,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """The options of both sources: broker, catalogue or events, limits, output."""

    bootstrap_servers: str | None = None
    with_catalogue: bool = True
    with_feed: bool = True
    end: End = field(default_factory=End)
    as_json: bool = False

    @property
    def settings(self) -> KafkaSettings:
        """The settings of the broker: the environment, and what overrides it."""
        settings = load(KafkaSettings, os.environ)
        if self.bootstrap_servers is None:
            return settings
        return settings.model_copy(update={"bootstrap_servers": self.bootstrap_servers})


@dataclass(frozen=True, slots=True)
class SendRun:
    """A running command; *figures* are added to the totals that it prints."""

    feed: EventFeed
    console: Console
    figures: dict[str, Any] = field(default_factory=dict)

    def load(self, catalogue: Sequence[VideoUpload]) -> None:
        """Send the *catalogue*, and show the progress."""
        with progress("catalogue", self.console) as tell:
            self.feed.load(
                catalogue, lambda totals: tell(totals.uploads / max(1, len(catalogue)), totals)
            )

    def backfill(self, directory: Path, timeline: Timeline, hold_back: float) -> None:
        """Send the history windows from before *timeline*, if *directory* has any."""
        policy = load(WindowSettings, os.environ).policy
        self.console.print("histories: what users watched before the log", highlight=False)
        self.feed.backfill(
            records(
                directory,
                timeline.log,
                policy,
                before_ms=timeline.started_ms,
                hold_back=hold_back,
            )
        )


def idle_hint(timeline: Timeline, pace: Pace) -> str | None:
    """Return a hint if the replay is nearly idle at this *pace*, else None."""
    if not isinstance(pace, LogPace):
        return None
    num = timeline.num_watches_within(60_000 * pace.speed)
    if num >= LIVELY_PER_MINUTE:
        return None
    return (
        f"{num} watches in the next minute at --speed {pace.speed:g}x;"
        " --rate 200 sends 200 a second, --from skips the beginning"
    )


def run_replay(
    name: str,
    directory: Path,
    command: Command,
    *,
    pace: Pace,
    from_ms: int,
    hold_back: float,
    has_histories: bool = False,
) -> None:
    """Replay the log called *name* from *directory*, and print the totals.

    With *has_histories* the windows of its users go out behind the catalogue.

    Raises:
        DatasetError, BrokerUnavailable, ContractError: each with its remedy.
    """
    with stop_on_signals() as stop:
        timeline = lay_out(LOGS[name](directory), from_ms=from_ms, hold_back=hold_back)
        with _running(command, stop) as run:
            run.feed.totals.skipped.update(timeline.log.skipped)
            if command.with_catalogue:
                run.load(timeline.catalogue)
                if has_histories:
                    run.backfill(directory, timeline, hold_back)
            if command.with_feed and not stop.is_set():
                if hint := idle_hint(timeline, pace):
                    run.console.print(hint, highlight=False)
                with progress(name, run.console) as tell:
                    replay(timeline, run.feed, pace, end=command.end, tell=tell)


def run_simulation(
    command: Command, *, seed: int, num_users: int, num_videos: int, pace: Pace, upload_pace: Pace
) -> None:
    """Run an audience until its end or a signal, and print the totals.

    Raises:
        BrokerUnavailable, ContractError: each with its remedy.
    """
    with stop_on_signals() as stop:
        catalogue = SyntheticCatalogue(seed=seed, num_videos=num_videos)
        audience = Audience(catalogue, num_users=num_users, clock=system_clock)
        with _running(command, stop) as run:
            if command.with_catalogue:
                run.load(audience.catalogue())
            if not command.with_feed or stop.is_set():
                return
            with progress("audience", run.console) as tell, follow(command.settings) as answers:
                simulate(
                    audience,
                    run.feed,
                    answers,
                    pace=pace,
                    upload_pace=upload_pace,
                    end=command.end,
                    tell=tell,
                )
            run.figures.update(outcome(audience, answers))


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; a second signal ends the process as usual."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _running(command: Command, stop: threading.Event) -> Iterator[SendRun]:
    """Yield a run; its totals are printed however it ends, before an error is told."""
    run = SendRun(connect(command.settings, stop), Console(stderr=True))
    try:
        yield run
    finally:
        figures = run.feed.totals.as_dict() | run.figures
        typer.echo(msgspec.json.encode(figures) if command.as_json else _table(figures))


def _table(figures: dict[str, Any]) -> str:
    width = max(len(name) for name in figures)
    return "\n".join(f"{name:<{width}}  {_cell(value)}" for name, value in figures.items())


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(part)}" for name, part in value.items()) or "-"
    if isinstance(value, int | float):
        return f"{value:,}"
    return "-" if value is None else str(value)
