"""Define the command `nextwatch collections`."""

import os
from typing import Annotated

import typer

from nextwatch.operate.session import to_json


def collections(
    *,
    drop: Annotated[
        str | None,
        typer.Option(metavar="PREFIX", help="Delete every collection of this prefix."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before deleting.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the collections on the vector index with their owners; delete abandoned ones.

    Example: NEXTWATCH_QDRANT_URL=http://qdrant:6333 nextwatch collections
    """
    from rich.console import Console  # noqa: PLC0415

    from contract.process.settings import QdrantSettings, load  # noqa: PLC0415
    from nextwatch import collections as on_index  # noqa: PLC0415

    settings = load(QdrantSettings, os.environ)
    found = on_index.found(settings)
    if drop is not None:
        found = [one for one in found if one.prefix == drop]
    if as_json:
        typer.echo(to_json(found))
    elif found:
        Console().print(on_index.table(found))
    else:
        typer.echo(f"{settings.url} has no such collections")
    if drop is None or not found:
        return
    if not yes:
        typer.confirm(f"Delete these {len(found)} collections?", abort=True)
    typer.echo(f"{len(on_index.drop(settings, drop))} collections deleted", err=True)
