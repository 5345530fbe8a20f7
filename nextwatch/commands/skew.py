"""Define the command that looks for skew between serving and training.

What a command needs is imported when it runs: `--help` must not wait for Kafka.
"""

import os
from typing import Annotated

import typer

from nextwatch.operate.session import kafka_settings, scan_of, to_json


def skew(
    *,
    values: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after so many values; without it, all are compared."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="End with one JSON object of figures on stdout.")
    ] = False,
) -> None:
    """Compute the features of logged recommendations again, and say which values differ.

    Streams logs what it ranked by on ranking-log; the same values follow from the events, the
    bundle and item-vectors. A ranker that learns one thing and reads another gets worse without a
    word; here it is seen. Ends with 1 where a value differs.

    What retention or compaction has taken meanwhile cannot be compared, and is counted.

    Examples: nextwatch skew

    nextwatch skew --values 1000000 --json
    """
    from contract.process.settings import ProcessSettings, load  # noqa: PLC0415
    from models.bundle import bundle as bundles  # noqa: PLC0415
    from models.history.settings import WindowSettings  # noqa: PLC0415
    from nextwatch.acls import skew_needs  # noqa: PLC0415
    from nextwatch.skew.compare import READ_TOPICS, Topics, compare  # noqa: PLC0415

    kafka = kafka_settings()
    url = load(ProcessSettings, os.environ).bundle_url
    policy = load(WindowSettings, os.environ).policy
    topics = Topics()
    with scan_of(kafka, skew_needs(kafka.layout)) as scan:
        for record in scan.read([topic.name for topic in READ_TOPICS]):
            topics.take(record)
    found = compare(
        topics,
        lambda bundle_id: bundles.load(f"{url.rstrip('/')}/{bundle_id}"),
        policy,
        most_values=values,
    )
    if not as_json:
        typer.echo(
            f"{found.values:,} values of {found.recommendations:,} recommendations compared, "
            f"{found.num_differences:,} differ"
        )
        for name, count in found.differences.most_common():
            if count:
                typer.echo(f"  {name}: {count:,}")
        for example in found.examples:
            typer.echo(f"  {example}")
        for reason, count in found.not_compared.most_common():
            typer.echo(f"not compared: {count:,}, {reason}")
        for reason, count in topics.unreadable.most_common():
            typer.echo(f"not read: {count:,}, {reason}")
    else:
        typer.echo(
            to_json(
                {
                    "values": found.values,
                    "recommendations": found.recommendations,
                    "differences": found.num_differences,
                    "by_feature": {n: c for n, c in found.differences.items() if c},
                    "not_compared": dict(found.not_compared),
                    "not_read": dict(topics.unreadable),
                }
            )
        )
    if not found.values:
        typer.echo(
            "nothing was compared: is ranking-log empty, or older than its bundles?", err=True
        )
    if found.num_differences or not found.values:
        raise typer.Exit(1)
