"""Define the commands `nextwatch models`."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from nextwatch.operate.session import (
    kafka_settings,
    outbox_of,
    print_table,
    scan_of,
    to_ascii_json,
    usage_errors,
)

if TYPE_CHECKING:
    from contract.bundle_log import BundleLog
    from contract.wire.events import BundleAnnouncement

models_app = typer.Typer(
    no_args_is_help=True,
    help="""Generations of the models: what serves, what is kept, and going back.

nextwatch models list, then nextwatch models rollback. It works on a running system by announcements: every worker
returns within seconds, and the trainer goes back to the checkpoint of the generation that serves.""",
)

Generation = Annotated[int, typer.Argument(min=0, metavar="GENERATION")]
Reason = Annotated[
    str, typer.Option(metavar="WORDS", help="Why; it is announced, and listed afterwards.")
]
Unread = Annotated[
    bool,
    typer.Option("--unread", help="Also if its bundle cannot be read from here."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be announced.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_MAX_REASON = 256


@models_app.command("list")
def list_models(*, as_json: Json = False) -> None:
    """List the generations that are announced, the newest first.

    `kept` are generations that have served, and can serve again at once.

    Examples: nextwatch models list

    nextwatch models list --json | jq '.[] | select(.state == "withdrawn")'
    """
    from contract.process.clock import system_clock  # noqa: PLC0415
    from nextwatch.operate import models  # noqa: PLC0415

    log = _log()
    if as_json:
        typer.echo(to_ascii_json(models.bundles(log)))
    elif len(log):
        print_table(models.table(log, now_ms=system_clock()))
    else:
        typer.echo("no bundle is announced")


@models_app.command("show")
def show_model(generation: Generation) -> None:
    """Show one generation as it was announced, with its metrics, as JSON.

    Example: nextwatch models show 7
    """
    from nextwatch.operate import models  # noqa: PLC0415

    log = _log()
    with usage_errors():
        typer.echo(to_ascii_json(models.found(log, generation)))


@models_app.command("rollback")
def rollback(
    *,
    to: Annotated[
        int | None,
        typer.Option(min=0, metavar="GENERATION", help="Go back to this one, not to the last."),
    ] = None,
    reason: Reason = "by an operator",
    dry_run: DryRun = False,
) -> None:
    """Withdraw the generation in service, so that the one before it serves.

    The trainer goes back, too, and leaves out what it has learned since that generation.

    Examples: nextwatch models rollback --reason "recommends one channel to all"

    nextwatch models rollback --to 5 --dry-run
    """
    from contract.process.clock import system_clock  # noqa: PLC0415
    from nextwatch.operate import models  # noqa: PLC0415

    log = _log()
    with usage_errors():
        plan = models.plan_rollback(log, to, now_ms=system_clock(), reason=reason[:_MAX_REASON])
    _announce(plan, is_dry=dry_run)


@models_app.command("promote")
def promote(
    generation: Generation,
    *,
    reason: Reason = "by an operator",
    unread: Unread = False,
    dry_run: DryRun = False,
) -> None:
    """Put a generation in service, by withdrawing the later ones.

    One that was withdrawn is offered again. The next generation that the trainer offers follows it.
    Its bundle is read first, from NEXTWATCH_PROCESS_BUNDLE_URL: without it the later ones would be
    withdrawn for nothing.

    Example: nextwatch models promote 7 --reason "the alarm was false"
    """
    from contract.process.clock import system_clock  # noqa: PLC0415
    from nextwatch.operate import models  # noqa: PLC0415

    log = _log()
    with usage_errors():
        plan = models.plan_promotion(
            log, generation, now_ms=system_clock(), reason=reason[:_MAX_REASON]
        )
        if not unread:
            _check_bundle(models.found(log, generation))
    _announce(plan, is_dry=dry_run)


def _check_bundle(announcement: "BundleAnnouncement") -> None:
    """Check that the workers will find the bundle.

    Raises:
        ValueError: it cannot be read.
    """
    from contract.errors import NextwatchError  # noqa: PLC0415
    from contract.process.settings import ProcessSettings, load  # noqa: PLC0415
    from models.bundle.bundle import load_announced  # noqa: PLC0415

    root_url = load(ProcessSettings, os.environ).bundle_url
    try:
        load_announced(root_url, announcement)
    except (NextwatchError, OSError) as error:
        raise ValueError(
            f"nothing was announced, since no worker could serve it: {error}; --unread announces "
            "it nevertheless"
        ) from error


@models_app.command("diff")
def diff(first: Generation, second: Generation, *, as_json: Json = False) -> None:
    """Compare two generations: metrics, and videos and vectors where their bundles can be read.

    The bundles are read from NEXTWATCH_PROCESS_BUNDLE_URL.

    Example: nextwatch models diff 6 7
    """
    from contract.errors import NextwatchError  # noqa: PLC0415
    from contract.process.settings import ProcessSettings, load  # noqa: PLC0415
    from models.bundle.bundle import load_announced  # noqa: PLC0415
    from nextwatch.operate import models  # noqa: PLC0415

    log, loaded = _log(), None
    with usage_errors():
        one, other = models.found(log, first), models.found(log, second)
    root_url = load(ProcessSettings, os.environ).bundle_url
    try:
        loaded = load_announced(root_url, one), load_announced(root_url, other)
    except (NextwatchError, OSError) as error:
        typer.echo(f"only the metrics are compared: {error}", err=True)
    told = models.difference(one, other, loaded)
    if as_json:
        typer.echo(to_ascii_json(told))
    else:
        print_table(models.difference_table(told))


def _log() -> "BundleLog":
    from contract.wire.topics import MODEL_BUNDLES  # noqa: PLC0415
    from nextwatch.acls import models_needs  # noqa: PLC0415
    from nextwatch.operate import models  # noqa: PLC0415

    kafka = kafka_settings()
    with scan_of(kafka, models_needs(kafka.layout, is_change=False)) as scan:
        return models.log_of(scan.read([MODEL_BUNDLES.name]))


def _announce(plan: "list[BundleAnnouncement]", *, is_dry: bool) -> None:
    from contract.cluster.preflight import Preflight  # noqa: PLC0415
    from nextwatch.acls import models_needs  # noqa: PLC0415
    from nextwatch.operate import models  # noqa: PLC0415
    from nextwatch.operate.terminal import one_line  # noqa: PLC0415

    for each in plan:
        typer.echo(f"generation {each.generation}: {each.state.value} ({one_line(each.reason)})")
    if is_dry:
        typer.echo("nothing was announced")
        return
    kafka = kafka_settings()
    Preflight(kafka, models_needs(kafka.layout, is_change=True)).check_use()
    outbox_of(kafka).deliver(models.outgoing(plan, kafka.layout))
    typer.echo("announced; the workers follow within seconds")
