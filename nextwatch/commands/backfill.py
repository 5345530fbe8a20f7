"""Define ``nextwatch backfill``; `nextwatch.commands.cli` registers it."""

from pathlib import Path
from typing import Annotated

import typer


def backfill(
    *,
    data: Annotated[
        str,
        typer.Option(metavar="kuairand:DIR", help="The log whose histories are learned, and where"),
    ],
    passes: Annotated[
        int, typer.Option(min=1, max=100, help="So many passes over the histories.")
    ] = 2,
    users: Annotated[
        int | None,
        typer.Option(min=1, help="Learn from so many users, by lot; all are counted. Default: all"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Let the trainer learn histories from files before its first start.

    Settings are those of the trainer, from the environment. The catalogue must be on the broker.
    What is left is a checkpoint; python -m trainer with the same settings goes on from it. Stopped
    on the way it leaves none, and exits with 1.

    For example:

    nextwatch replay kuairand ../data/kuairand --histories --catalogue-only

    nextwatch backfill --data kuairand:../data/kuairand
    """
    source, _, directory = data.partition(":")
    if source != "kuairand" or not directory:
        raise typer.BadParameter(f"--data is kuairand:DIR, got {data!r}: no other has histories")
    try:
        from nextwatch.sources import warm_start  # noqa: PLC0415
    except ImportError as error:
        raise typer.BadParameter(
            f"{error.name} is not installed: pip install 'nextwatch[train]'"
        ) from None
    if not warm_start.run(Path(directory), passes=passes, users=users, as_json=as_json):
        raise typer.Exit(1)
