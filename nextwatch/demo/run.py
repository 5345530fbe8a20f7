"""Run the demo, from the first process to the last figure.

Two rules. What is shown was measured from outside: the observer reads the topics and asks the
index like any other client; nothing is taken from the word of the processes themselves. And
however a run ends, its figures are told, before its processes are stopped.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import typer
from rich.console import Console
from rich.markup import escape

from contract.errors import BrokerUnavailable
from contract.process import log_setup as logging
from contract.process.clock import system_clock
from contract.process.settings import load, variables
from nextwatch.console.listening import listen_near
from nextwatch.console.settings import ConsoleSettings
from nextwatch.demo.age import process_age_s
from nextwatch.demo.checklist import Checklist
from nextwatch.demo.console import DemoConsole
from nextwatch.demo.display import Display, display
from nextwatch.demo.feed import DemoFeed, parse
from nextwatch.demo.figures.report import as_json
from nextwatch.demo.interruption import Interruption, interruptible
from nextwatch.demo.show import Show
from nextwatch.demo.summary import summary
from nextwatch.embedded.broker import BrokerChoice, choose_broker
from nextwatch.embedded.stack import EmbeddedStack
from nextwatch.notices import log_to
from nextwatch.topics import topics


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `nextwatch demo`; *rate* is events per second, *upload_rate* uploads.

    Without a *console_port* the console listens on its usual one, or any that is free.
    """

    data: str | None = None
    rate: float = 50.0
    upload_rate: float | None = None
    seconds: float | None = None
    is_headless: bool = False
    as_json: bool = False
    state_dir: Path | None = None
    broker: str | None = None
    bootstrap: str | None = None
    has_console: bool = True
    console_port: int | None = None


def run(options: Options, environ: Mapping[str, str]) -> None:
    """Show the whole system at work, and print its figures at the end.

    Raises:
        NextwatchError: it cannot be shown, or a run failed, with the remedy.
    """
    feed = parse(options.data, rate=options.rate, upload_rate=options.upload_rate)
    console = Console(stderr=options.as_json)
    broker = choose_broker(environ, broker=options.broker, bootstrap_servers=options.bootstrap)
    if broker.warning:
        console.print(f"[yellow]{escape(broker.warning)}[/]", highlight=False)
    serving = _console(options, environ)
    with interruptible() as interruption, ExitStack() as ending:
        if serving is not None:
            ending.callback(serving.stop)
        with display(console, is_headless=options.is_headless) as screen:
            log_to(screen.note)
            show = _show(options, environ, broker, feed, screen, interruption, serving)
            if broker.engine is None:
                ending.callback(_delete_topics, show)
            ending.enter_context(_stopped(show))
            show.run(feed)
        logging.configure("warning")
        figures = show.figures()
        for text in summary(figures):
            console.print(text, highlight=False, markup=False, soft_wrap=True)
        if options.as_json:
            typer.echo(as_json(figures))
    if show.failure is not None:
        logs = show.stack.directory / "logs"
        if logs.exists():
            show.failure.add_note(f"The logs of this run are kept: {logs}")
        raise show.failure


def _delete_topics(show: Show) -> None:
    """Remove the demo's own topics from a Kafka that runs, if they came to be."""
    if show.stack.has_topics:
        with suppress(BrokerUnavailable):
            topics.delete_all(show.stack.kafka)


def _show(
    options: Options,
    environ: Mapping[str, str],
    broker: BrokerChoice,
    feed: DemoFeed,
    screen: Display,
    interruption: Interruption,
    serving: DemoConsole | None,
) -> Show:
    checklist = Checklist(
        lambda: process_age_s(system_clock),
        on_done=screen.say,
        left_out=frozenset() if serving else frozenset({"console"}),
    )

    def on_step(step: str) -> None:
        if url := stack.status_urls.get(step):
            checklist.notes[step] = f"metrics at {url}/metrics"
        checklist.done(step)

    stack = EmbeddedStack(
        environ,
        state_dir=options.state_dir,
        on_step=on_step,
        broker=broker,
        env=_own_topics() if broker.engine is None else {},
        env_of=feed.env_of,
    )
    return Show(
        stack,
        screen,
        checklist,
        interruption,
        rate=options.rate,
        seconds=options.seconds,
        bootstrap_servers=options.bootstrap,
        clock=system_clock,
        console=serving,
    )


def _console(options: Options, environ: Mapping[str, str]) -> DemoConsole | None:
    """Return the console of the run, which listens already; None where none is wanted.

    Raises:
        ContractError: the port that was named is taken.
    """
    if not options.has_console:
        return None
    settings = load(ConsoleSettings, environ)
    variable = variables(ConsoleSettings)["port"]
    is_fixed = options.console_port is not None or variable in environ
    port = options.console_port or settings.port
    return DemoConsole(listen_near(port, is_fixed=is_fixed))


def _own_topics() -> dict[str, str]:
    """Return settings that keep this run apart from others on a Kafka that runs already."""
    return {
        "NEXTWATCH_KAFKA_TOPIC_PREFIX": f"nextwatch-demo-{uuid4().hex[:8]}-",
        "NEXTWATCH_KAFKA_USER_PARTITIONS": "4",
        "NEXTWATCH_KAFKA_VIDEO_PARTITIONS": "1",
    }


@contextmanager
def _stopped(show: Show) -> Iterator[None]:
    """Stop the stack of *show* at the end of the block, and keep the logs unless all went well."""
    try:
        yield
    except KeyboardInterrupt:
        show.stack.kill()
    finally:
        show.stack.stop(is_kept=show.failure is not None)
