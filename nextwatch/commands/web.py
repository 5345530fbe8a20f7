"""Define the commands that serve HTTP; `nextwatch.commands.cli` registers them."""

import os
from importlib.util import find_spec
from typing import Annotated

import typer

from contract.errors import StackError

_NEEDS = ("starlette", "uvicorn", "httptools")


def gateway(
    *,
    host: Annotated[
        str | None,
        typer.Option(
            help="Where to listen, instead of NEXTWATCH_GATEWAY_HOST.", show_default=False
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65_535, help="Instead of NEXTWATCH_GATEWAY_PORT.", show_default=False
        ),
    ] = None,
) -> None:
    """Serve the topics over HTTP: events in, recommendations out, until Ctrl-C.

    It listens on 127.0.0.1:8080. /openapi.json describes all requests, docs/gateway.md explains
    them, and NEXTWATCH_GATEWAY_* are its settings.

    Example: NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS=broker:9092 nextwatch gateway --port 8088
    """
    _require("gateway", _NEEDS)
    from nextwatch.gateway import server  # noqa: PLC0415

    given = {"NEXTWATCH_GATEWAY_HOST": host, "NEXTWATCH_GATEWAY_PORT": port}
    options = {name: str(value) for name, value in given.items() if value is not None}
    server.run(dict(os.environ) | options)


def console(
    *,
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65_535, help="Instead of NEXTWATCH_CONSOLE_PORT.", show_default=False
        ),
    ] = None,
) -> None:
    """Serve the console, for viewers, creators and operators, on this machine until Ctrl-C.

    It listens on 127.0.0.1:8090 and nowhere else: whoever reaches it may do everything.
    docs/console.md explains its pages.

    Example: NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS=broker:9092 nextwatch console
    """
    _require("gateway", _NEEDS)
    from nextwatch.console import server  # noqa: PLC0415

    options = {} if port is None else {"NEXTWATCH_CONSOLE_PORT": str(port)}
    server.run(dict(os.environ) | options, tell=typer.echo)


def _require(extra: str, modules: tuple[str, ...]) -> None:
    if any(find_spec(module) is None for module in modules):
        raise StackError(f"this needs the extra {extra}: pip install 'nextwatch[{extra}]'")
