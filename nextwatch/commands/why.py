"""Define the command `nextwatch why`; `nextwatch.commands.cli` registers it.

What a command needs is imported when it runs: `--help` must not wait for Kafka.
"""

import os
import re
from typing import Annotated, NoReturn

import typer

from nextwatch.operate.session import kafka_settings, print_wide, scan_of, to_ascii_json


def why(
    recommendation: Annotated[
        str,
        typer.Argument(metavar="RECOMMENDATION_ID", help="The id of a recommendation, a UUID."),
    ],
    *,
    items: Annotated[
        int, typer.Option(min=0, metavar="NUMBER", help="Print features of so many videos.")
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, of all videos.")] = False,
) -> None:
    """Explain one recommendation from the topics: cause, window, features, scores, rules.

    What is not recorded, or no longer kept, is said. It changes nothing. Exits with 1 when no
    recommendation of this id is kept.

    Examples: nextwatch why 6f1c0f4e-8a39-4a55-b7d9-0d0a4a1c2b3d

    nextwatch why 6f1c0f4e-8a39-4a55-b7d9-0d0a4a1c2b3d --json | jq '.items[0]'
    """
    from contract.process.settings import ProcessSettings, load  # noqa: PLC0415
    from models.history.settings import WindowSettings  # noqa: PLC0415
    from nextwatch.acls import why_needs  # noqa: PLC0415
    from nextwatch.why import report  # noqa: PLC0415
    from nextwatch.why.lookup import explained  # noqa: PLC0415

    wanted = _id_of(recommendation)
    kafka = kafka_settings()
    url = load(ProcessSettings, os.environ).bundle_url
    policy = load(WindowSettings, os.environ).policy
    with scan_of(kafka, why_needs(kafka.layout)) as scan:
        told = explained(wanted, scan, kafka.layout, bundle_url=url, policy=policy)
    if told is None:
        _end_unknown(wanted)
    if as_json:
        typer.echo(to_ascii_json(told))
    else:
        print_wide(report.whole(told, most_items=items))


def _id_of(text: str) -> str:
    """Return the id as recommendations have it: in lower case, with dashes."""
    from contract.wire.identifiers import UUID_BODY, as_uuid, event_key  # noqa: PLC0415

    if not re.fullmatch(UUID_BODY, text.strip()):
        raise typer.BadParameter("a recommendation id is a UUID, 8-4-4-4-12 hexadecimal digits")
    return as_uuid(event_key(text.strip()))


def _end_unknown(recommendation_id: str) -> NoReturn:
    typer.echo(
        f"no recommendation {recommendation_id} is kept: it was never made here, or the retention "
        "of the topic recommendations has taken it (NEXTWATCH_KAFKA_TOPIC_PREFIX names another "
        "deployment)",
        err=True,
    )
    raise typer.Exit(1)
