"""Define the command line; each command imports what it needs when it runs.

One rule: an error of ours is one clear line with its remedy, never a traceback.
"""

import math
import os
import signal
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Annotated, NoReturn

import typer

from contract.errors import ContractError, StackError
from contract.process import log_setup as logging
from contract.process.entrypoint import run_to_end
from contract.version import VERSION
from nextwatch.commands import web
from nextwatch.commands.backfill import backfill
from nextwatch.commands.batch import batch_app
from nextwatch.commands.cluster import acls, repartition, topics
from nextwatch.commands.collections import collections
from nextwatch.commands.doctor import doctor
from nextwatch.commands.evaluate import evaluate_app
from nextwatch.commands.evaluate_freshness import freshness
from nextwatch.commands.evaluate_rank import rank
from nextwatch.commands.models import models_app
from nextwatch.commands.operate import dlq_app, erase
from nextwatch.commands.skew import skew
from nextwatch.commands.sources import replay_app, simulate
from nextwatch.commands.why import why
from nextwatch.given_broker import told_of_option

app = typer.Typer(
    name="nextwatch",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    help="""A streaming, real-time video recommender on Kafka.

See it work on this machine, with nothing else installed:  [bold]nextwatch demo[/bold]

Against a Kafka of your own, named by NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS:
[bold]nextwatch topics[/bold], then [bold]nextwatch simulate[/bold].""",
)
stack_app = typer.Typer(
    no_args_is_help=True, help="Broker, index and all processes on this machine."
)
app.add_typer(stack_app, name="stack")
app.add_typer(replay_app, name="replay")
app.add_typer(dlq_app, name="dlq")
app.add_typer(models_app, name="models")
evaluate_app.command("rank")(rank)
evaluate_app.command("freshness")(freshness)
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(batch_app, name="batch")
app.command("simulate")(simulate)
app.command("backfill")(backfill)
app.command("erase")(erase)
app.command("skew")(skew)
app.command("why")(why)
app.command("doctor")(doctor)
app.command("gateway")(web.gateway)
app.command("console")(web.console)
app.command("topics")(topics)
app.command("acls")(acls)
app.command("repartition")(repartition)
app.command("collections")(collections)

EnvFile = Annotated[
    Path, typer.Option("--env-file", "-f", help="Where the settings of the running stack are kept.")
]
StateDir = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        help="Keep topics, state, bundles and logs here; the next run in it goes on from there.",
    ),
]
Broker = Annotated[
    str | None,
    typer.Option(
        metavar="kafka:DIR|kafka|tansu",
        help="Start this broker: an unpacked Kafka distribution, the Kafka that Nextwatch fetches "
        "(the default), or Tansu, in memory and for minutes.",
    ),
]


def _servers(given: str | None) -> str | None:
    """Refuse what is no address before anything is started for it."""
    if given is not None:
        from contract.process.settings import KafkaSettings, load  # noqa: PLC0415

        try:
            load(KafkaSettings, {"NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": given})
        except ContractError:
            raise typer.BadParameter(
                f"{given!r} is not HOST:PORT of one broker or more, comma-separated"
            ) from None
    return given


def _finite(given: float | None) -> float | None:
    """Refuse nan and infinity, which are within every bound or above every one."""
    if given is not None and not math.isfinite(given):
        raise typer.BadParameter(f"{given} is not a finite number")
    return given


Bootstrap = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        callback=_servers,
        help="Start no broker: use the Kafka that runs there.",
    ),
]
_DEFAULT_ENV_FILE = Path(".nextwatch/stack.env")
_STACK_NEEDS = (("psutil", "embedded"), ("qdrant_edge", "embedded"), ("torch", "train"))
Port = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65_535,
        show_default=False,
        help="Where the broker listens. Without it 9092 when that is free, else another.",
    ),
]


def main() -> NoReturn:
    """Run the command line; `contract.process.exit_codes` defines its exit codes."""
    logging.configure("warning")
    run_to_end("nextwatch", app)


def _print_version(is_asked: bool) -> None:  # noqa: FBT001 - as Typer calls it
    if is_asked:
        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def nextwatch(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take the options before a command."""


@app.command()
def demo(  # noqa: PLR0913 - one argument an option
    *,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="kuairand:DIR|movielens:DIR", help="Replay a real log instead of simulating."
        ),
    ] = None,
    rate: Annotated[
        float,
        typer.Option(min=0.1, callback=_finite, help="Watches and searches per second."),
    ] = 50.0,
    upload_rate: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            callback=_finite,
            show_default=False,
            help="New videos per second of the simulated audience, 1 without it.",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1.0, callback=_finite, help="End by itself, so long after the first event."
        ),
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Plain lines, no panel.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="End with one JSON object of figures on stdout.")
    ] = False,
    state_dir: StateDir = None,
    broker: Broker = None,
    bootstrap: Bootstrap = None,
    console: Annotated[
        bool, typer.Option("--console/--no-console", help="Serve the console, for a browser.")
    ] = True,
    console_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65_535,
            show_default=False,
            help="Where the console listens. Without it 8090 when that is free, else another.",
        ),
    ] = None,
) -> None:
    """Watch recommendations follow the events: everything runs on this machine until Ctrl-C.

    For example:

    nextwatch demo

    nextwatch demo --data kuairand:../data/kuairand --rate 100

    nextwatch demo --headless --seconds 60 --json | tail -1
    """
    _require_extras()
    _check_settings(is_kafka_given=bootstrap is not None)
    from nextwatch.demo.run import Options, run  # noqa: PLC0415

    run(
        Options(
            data=data,
            rate=rate,
            upload_rate=upload_rate,
            seconds=seconds,
            is_headless=headless,
            as_json=as_json,
            state_dir=state_dir,
            broker=broker,
            bootstrap=bootstrap,
            has_console=console,
            console_port=console_port,
        ),
        dict(os.environ),
    )


@stack_app.command("up")
def stack_up(
    *,
    port: Port = None,
    state_dir: StateDir = None,
    env_file: EnvFile = _DEFAULT_ENV_FILE,
    broker: Broker = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Start the embedded stack and keep it up until Ctrl-C.

    Example: nextwatch stack up, and then, in another terminal:

    eval "$(nextwatch stack env)" && nextwatch simulate --rate 50
    """
    _require_extras()
    _check_settings(is_kafka_given=bootstrap is not None)
    from nextwatch.embedded import foreground  # noqa: PLC0415
    from nextwatch.embedded.broker import choose_broker  # noqa: PLC0415
    from nextwatch.embedded.process.ports import broker_port  # noqa: PLC0415
    from nextwatch.embedded.stack import EmbeddedStack  # noqa: PLC0415
    from nextwatch.notices import log_to  # noqa: PLC0415

    log_to(lambda line: typer.secho(line, fg="yellow", err=True))
    if bootstrap and port is not None:
        raise StackError("--port is of a broker that is started, and --bootstrap starts none")
    choice = choose_broker(
        os.environ,
        broker=broker,
        bootstrap_servers=bootstrap,
        port=0 if bootstrap else broker_port(port, tell=typer.echo),
        is_fixed=port is not None,
    )
    if choice.warning:
        typer.secho(choice.warning, fg="yellow", err=True)
    stack = EmbeddedStack(
        os.environ,
        state_dir=state_dir,
        on_step=lambda step: typer.echo(f"{step} is ready"),
        broker=choice,
    )
    is_over = Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    try:
        with told_of_option(bootstrap):
            foreground.run(stack, env_file, is_over=is_over, tell=typer.echo)
    except KeyboardInterrupt:
        typer.echo("stopped")


@stack_app.command("env")
def stack_env(*, env_file: EnvFile = _DEFAULT_ENV_FILE) -> None:
    """Print the settings of the running stack, for a shell.

    Example: eval "$(nextwatch stack env)"
    """
    from nextwatch.embedded import foreground  # noqa: PLC0415

    for line in foreground.exports(env_file):
        typer.echo(line)


@app.command("settings")
def settings_page() -> None:
    """Print every setting of every process, with its default and its bounds, as Markdown.

    Example: nextwatch settings | grep NEXTWATCH_KAFKA_
    """
    from nextwatch import settings_reference  # noqa: PLC0415

    typer.echo(settings_reference.render(), nl=False)


@app.command("metrics")
def metrics_page() -> None:
    """Print every metric of every process, with its type and its labels, as Markdown.

    Example: nextwatch metrics | grep lag
    """
    from nextwatch import metrics_reference  # noqa: PLC0415

    typer.echo(metrics_reference.render(), nl=False)


@app.command()
def version() -> None:
    """Print the version of nextwatch."""
    typer.echo(VERSION)


def _check_settings(*, is_kafka_given: bool) -> None:
    """Refuse a misspelt setting, and name those that the stack passes over: it has its own.

    Raises:
        ContractError: a variable is unknown or out of bounds.
    """
    from contract.process.settings import load  # noqa: PLC0415
    from nextwatch.embedded.stack import unused_settings  # noqa: PLC0415
    from nextwatch.settings_reference import GROUPS  # noqa: PLC0415

    for group in GROUPS:
        load(group, os.environ)
    if names := unused_settings(os.environ, is_kafka_given=is_kafka_given):
        typer.secho(
            f"not used, since this stack has settings of its own: {', '.join(names)}",
            fg="yellow",
            err=True,
        )


def _require_extras() -> None:
    """Raise what is not installed that a whole stack on this machine needs."""
    missing = sorted({extra for module, extra in _STACK_NEEDS if find_spec(module) is None})
    if missing:
        raise StackError(
            f"this needs the extras {' and '.join(missing)}: pip install "
            f"'nextwatch[{','.join(missing)}]', or in a checkout make demo TORCH=torch "
            "(README.md says how to choose the CPU build of torch)"
        )
