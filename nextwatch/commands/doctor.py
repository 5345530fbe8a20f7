"""Define the command `nextwatch doctor`; `nextwatch.commands.cli` registers it.

What a command needs is imported when it runs: `--help` must not wait for Kafka.
"""

import os
from typing import Annotated

import typer

from nextwatch.operate.session import print_wide, to_ascii_json


def doctor(
    *,
    wait_s: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=1, max=60, help="For each part that does not answer."
        ),
    ] = 5.0,
    check_s: Annotated[
        float,
        typer.Option(
            "--check-wait", metavar="SECONDS", min=1, max=600, help="For each check, at most."
        ),
    ] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Examine this deployment, part by part: what is wrong, and what to do about it.

    Settings, connections, topics, partitions, versions, clocks, disks, and the index against the
    catalogue. It changes nothing and writes nothing. A part that cannot be reached is one finding,
    and the rest goes on. Exits with 0 when nothing is wrong, else with 1.

    Run it where a process runs, with its environment: disks and the clock are this machine's.

    Examples: nextwatch doctor

    nextwatch doctor --json | jq '.findings[] | select(.health == "wrong")'
    """
    from rich.console import Console  # noqa: PLC0415

    from contract.process import log_setup as logging  # noqa: PLC0415
    from contract.process.clock import system_clock  # noqa: PLC0415
    from nextwatch.doctor import report  # noqa: PLC0415
    from nextwatch.doctor.examination import Examination  # noqa: PLC0415

    logging.configure("critical")  # what the parts would log of an outage is a finding here
    with Console(stderr=True).status("starting") as status:
        examination = Examination(
            os.environ, clock=system_clock, patience_s=wait_s, check_s=check_s
        )
        found = examination.run(lambda name: status.update(f"examining {name}"))
    is_healthy = report.is_healthy(found)
    if as_json:
        summary = report.summary(found)
        typer.echo(to_ascii_json({"healthy": is_healthy, "summary": summary, "findings": found}))
    else:
        print_wide(report.table(found))
        typer.echo(report.summary(found))
    if not is_healthy:
        raise typer.Exit(1)
