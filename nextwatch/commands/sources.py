"""Define the commands of the sources; `nextwatch.commands.cli` registers them.

What a command needs is imported when it runs: `--help` must not wait for numpy and Kafka.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nextwatch.sources.pacing import Pace
    from nextwatch.sources.run import Command

DEFAULT_RATE_PER_S = 50.0

replay_app = typer.Typer(
    help="Turn a real watch log into events, in the order of their times.", no_args_is_help=True
)


def quantity(text: str | float) -> float:
    """Return the number in `100`, `100x` or `1.5/s`; typer sends defaults through here too."""
    try:
        return float(str(text).strip().removesuffix("x").removesuffix("/s"))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number like 100, 100x or 1.5/s") from None


Directory = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="The folder of the unpacked data set, or the .zip of MovieLens."
    ),
]
Speed = Annotated[
    float | None,
    typer.Option(parser=quantity, metavar="100x", help="How much faster than it happened."),
]
Rate = Annotated[
    float | None,
    typer.Option(
        parser=quantity,
        metavar="N",
        help=f"Watches and searches per second, evenly; {DEFAULT_RATE_PER_S:g} when nothing is said."
        " Impressions and uploads ride along.",
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="End after so many watches and searches.")]
Seconds = Annotated[float | None, typer.Option(min=0.1, help="End after so many seconds.")]
HoldBack = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=0.99,
        help="Share of the videos that are uploaded only at their first exposure, so that there"
        " are cold ones. Give the same share to --catalogue-only and --no-catalogue.",
    ),
]
From = Annotated[
    datetime | None,
    typer.Option(
        "--from", help="Leave out what happened before, as 2022-05-01 or 2022-05-01T12:00:00 (UTC)."
    ),
]
CatalogueOnly = Annotated[
    bool, typer.Option("--catalogue-only", help="Send the catalogue, and no events.")
]
Histories = Annotated[
    bool,
    typer.Option(
        "--histories",
        help="Behind the catalogue, send what users watched before the log, as history windows:"
        " streams knows them, and a trainer that starts for the first time learns from them."
        " With all of the official files, replay --from 2022-04-24T16:00.",
    ),
]
NoCatalogue = Annotated[
    bool, typer.Option("--no-catalogue", help="Send the events; the catalogue is there already.")
]
Bootstrap = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers", help="The broker; NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS when not given."
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the totals as one JSON object, the last line.")
]


@replay_app.command("kuairand")
def replay_kuairand(  # noqa: PLR0913 - options
    directory: Directory,
    *,
    speed: Speed = None,
    rate: Rate = None,
    limit: Limit = None,
    seconds: Seconds = None,
    hold_back: HoldBack = 0.0,
    from_: From = None,
    histories: Histories = False,
    catalogue_only: CatalogueOnly = False,
    no_catalogue: NoCatalogue = False,
    bootstrap_servers: Bootstrap = None,
    as_json: Json = False,
) -> None:
    """Replay KuaiRand-Pure: short videos, with impressions and real watch times.

    Example: nextwatch replay kuairand ../data/kuairand --rate 200 --hold-back 0.02
    """
    command = _command(
        limit,
        seconds,
        catalogue_only=catalogue_only,
        no_catalogue=no_catalogue,
        bootstrap_servers=bootstrap_servers,
        as_json=as_json,
    )
    pace = _pace(speed, rate)
    _replay("kuairand", directory, command, pace, hold_back, from_, has_histories=histories)


@replay_app.command("movielens")
def replay_movielens(  # noqa: PLR0913 - options
    directory: Directory,
    *,
    speed: Speed = None,
    rate: Rate = None,
    limit: Limit = None,
    seconds: Seconds = None,
    hold_back: HoldBack = 0.0,
    from_: From = None,
    catalogue_only: CatalogueOnly = False,
    no_catalogue: NoCatalogue = False,
    bootstrap_servers: Bootstrap = None,
    as_json: Json = False,
) -> None:
    """Replay MovieLens: ratings since 1995, each as a completed watch.

    Example: nextwatch replay movielens ../data/ml-latest-small --rate 200 --from 2015-01-01
    """
    command = _command(
        limit,
        seconds,
        catalogue_only=catalogue_only,
        no_catalogue=no_catalogue,
        bootstrap_servers=bootstrap_servers,
        as_json=as_json,
    )
    _replay("movielens", directory, command, _pace(speed, rate), hold_back, from_)


def simulate(  # noqa: PLR0913 - options
    *,
    users: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many viewers.")] = 500,
    videos: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="How many videos at the start.")
    ] = 2_000,
    rate: Annotated[
        float, typer.Option(parser=quantity, metavar="N", help="Watches and searches per second.")
    ] = DEFAULT_RATE_PER_S,
    upload_rate: Annotated[
        float, typer.Option(parser=quantity, metavar="N/s", help="New videos per second.")
    ] = 1.0,
    limit: Limit = None,
    seconds: Seconds = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another audience.")] = 0,
    catalogue_only: CatalogueOnly = False,
    no_catalogue: NoCatalogue = False,
    bootstrap_servers: Bootstrap = None,
    as_json: Json = False,
) -> None:
    """Simulate an audience that watches recommendations or browses, with drifting tastes.

    Example: nextwatch simulate --users 500 --rate 50 --upload-rate 1/s --seconds 60
    """
    from nextwatch.sources.pacing import even_pace  # noqa: PLC0415
    from nextwatch.sources.run import run_simulation  # noqa: PLC0415

    _refuse_negative("--rate", rate)
    _refuse_negative("--upload-rate", upload_rate)
    run_simulation(
        _command(
            limit,
            seconds,
            catalogue_only=catalogue_only,
            no_catalogue=no_catalogue,
            bootstrap_servers=bootstrap_servers,
            as_json=as_json,
        ),
        seed=seed,
        num_users=users,
        num_videos=videos,
        pace=even_pace(rate),
        upload_pace=even_pace(upload_rate),
    )


def _replay(
    name: str,
    directory: Path,
    command: "Command",
    pace: "Pace",
    hold_back: float,
    from_: datetime | None,
    *,
    has_histories: bool = False,
) -> None:
    from nextwatch.sources.run import run_replay  # noqa: PLC0415

    from_ms = int(from_.replace(tzinfo=UTC).timestamp() * 1000) if from_ else 0
    run_replay(
        name,
        directory,
        command,
        pace=pace,
        from_ms=from_ms,
        hold_back=hold_back,
        has_histories=has_histories,
    )


def _pace(speed: float | None, rate: float | None) -> "Pace":
    from nextwatch.sources.pacing import EvenPace, LogPace  # noqa: PLC0415

    if speed is not None and rate is not None:
        raise typer.BadParameter("give --speed or --rate, not both")
    try:
        if speed is not None:
            return LogPace(speed)
        return EvenPace(DEFAULT_RATE_PER_S if rate is None else rate)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _refuse_negative(option: str, value: float) -> None:
    if not 0 <= value < float("inf"):
        raise typer.BadParameter(f"{option} must be 0 or more, got {value}")


def _command(
    limit: int | None,
    seconds: float | None,
    *,
    catalogue_only: bool,
    no_catalogue: bool,
    bootstrap_servers: str | None,
    as_json: bool,
) -> "Command":
    from nextwatch.sources.replay import End  # noqa: PLC0415
    from nextwatch.sources.run import Command  # noqa: PLC0415

    if catalogue_only and no_catalogue:
        raise typer.BadParameter("--catalogue-only and --no-catalogue leave nothing to send")
    return Command(
        bootstrap_servers=bootstrap_servers,
        with_catalogue=not no_catalogue,
        with_feed=not catalogue_only,
        end=End(events=limit, seconds=seconds),
        as_json=as_json,
    )
