"""Define the commands that set up a cluster; `nextwatch.commands.cli` registers them.

What a command needs is imported when it runs: `--help` must not wait for Kafka.
"""

import os
from typing import Annotated

import typer

from nextwatch.operate.session import kafka_settings, print_table, to_json

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def topics(
    *,
    check: Annotated[bool, typer.Option("--check", help="Only compare; change nothing.")] = False,
    as_json: Json = False,
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", help="For a broker that starts.", min=1)
    ] = 10.0,
) -> None:
    """Create the topics that are missing, and print what differs from the contract.

    Running it again changes nothing. It exits with 1 when a person has to decide.

    Example: NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS=broker:9092 nextwatch topics --check
    """
    from rich.console import Console  # noqa: PLC0415

    from nextwatch.topics import report as topics_report  # noqa: PLC0415
    from nextwatch.topics.topics import reconcile  # noqa: PLC0415

    findings = reconcile(kafka_settings(), is_check=check, patience_s=wait_s)
    console = Console()
    if as_json:
        typer.echo(to_json(findings))
    else:
        drawn = topics_report.table(findings)
        if drawn.row_count:
            console.print(drawn)
        console.print(topics_report.summary(findings), highlight=False)
    for line in (*topics_report.notes(findings), *topics_report.remedies(findings)):
        typer.echo(line, err=True)
    if any(finding.is_bad for finding in findings):
        raise typer.Exit(1)


def acls(
    process: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Only of this process or command: streams, dlq."),
    ] = None,
    *,
    commands: Annotated[
        bool, typer.Option("--commands", help="Print commands of kafka-acls.sh that grant them.")
    ] = False,
    principal: Annotated[
        str,
        typer.Option(
            metavar="User:NAME",
            help="With --commands: grant them to this user; each has one of its own name otherwise.",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Print the least rights that each process and command needs on a cluster with access control.

    It asks no broker: names follow from NEXTWATCH_KAFKA_TOPIC_PREFIX. Each process looks at its
    start, and while it runs, whether it has them.

    Examples: nextwatch acls streams

    nextwatch acls --commands | sh
    """
    from nextwatch import acls as rights  # noqa: PLC0415

    kafka = kafka_settings()
    needs = rights.all_needs(kafka.layout)
    names = list(dict.fromkeys(each.app for each in needs))
    if process is not None and process not in names:
        raise typer.BadParameter(f"{process} is none of {', '.join(names)}")
    given = rights.grants(each for each in needs if process in (None, each.app))
    if as_json:
        typer.echo(to_json(given))
    elif commands:
        servers = kafka.bootstrap_servers
        for line in rights.commands(given, bootstrap_servers=servers, principal=principal):
            typer.echo(line)
    else:
        print_table(rights.table(given))


def repartition(
    count: Annotated[
        int,
        typer.Argument(
            min=1, max=1024, metavar="COUNT", help="Partitions, at least as many as there are."
        ),
    ],
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what would be done; change nothing.")
    ] = False,
) -> None:
    """Give all topics keyed by user COUNT partitions, and move the windows to where they belong.

    Stop producers of events, wait until streams and trainer have no lag, and stop all processes: it
    refuses to begin while streams runs, and tells what was not read. With the present count it
    moves windows that a producer with another hash has put elsewhere. It may be run again at any
    time, and goes on where it broke off. Afterwards set NEXTWATCH_KAFKA_USER_PARTITIONS=COUNT
    everywhere, delete the state directories of the streams workers, and start them: they read the
    windows from the changelog.

    Example: nextwatch repartition 16
    """
    from contract.process.settings import load  # noqa: PLC0415
    from models.history.settings import WindowSettings  # noqa: PLC0415
    from nextwatch.repartition import run  # noqa: PLC0415

    policy = load(WindowSettings, os.environ).policy
    for line in run(kafka_settings(), policy, count, is_check=check):
        typer.echo(line)
