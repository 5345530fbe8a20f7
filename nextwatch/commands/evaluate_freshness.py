"""Define `nextwatch evaluate freshness`; `nextwatch.commands.cli` registers it."""

import json
import os
from typing import Annotated

import typer

from contract.errors import DatasetError
from nextwatch.commands.evaluate import (
    JsonOption,
    KuaiRandOption,
    ReportOption,
    directory_of_kuairand,
    overrides_of,
    say_written,
)


def freshness(
    *,
    data: KuaiRandOption,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Who retrieves: any model without a tree.")
    ] = "youtube_dnn",
    window: Annotated[
        str,
        typer.Option(
            metavar="tune|test",
            help="25-30 April, for choosing anything, or 1-4 May, for the verdict.",
        ),
    ] = "test",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of the model, all in one replay.")] = 1,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a setting of the model."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch and BLAS.")] = 1,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Does freshness pay? Score each case with weights, counters and user vectors of many ages.

    The protocol is that of `nextwatch evaluate retrieval` on kuairand, and one model learns, in
    batches of two seconds. Every case is scored with its weights as they were synced every 2 s,
    1 min, 30 min, 1 h, 5 h and never since the first test, each with live counters and with those
    of the sync, and each with user vectors of now, of the last full hour and of the last full day:
    36 rows from one run, which takes a core some ten minutes.

    For example:

    nextwatch evaluate freshness --data kuairand:../data/kuairand --report out

    nextwatch evaluate freshness --data kuairand:../data/kuairand --window tune --seeds 3 --json
    """
    from rich.console import Console  # noqa: PLC0415

    # before numpy is loaded: several threads on products of so few rows wait for each other
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads))

    from nextwatch.evaluate.logs.kuairand import WINDOWS  # noqa: PLC0415

    if window not in WINDOWS:
        raise typer.BadParameter(f"--window is one of {', '.join(WINDOWS)}, got {window!r}")
    try:
        import torch  # noqa: PLC0415

        from nextwatch.evaluate.freshness import report as reports  # noqa: PLC0415
        from nextwatch.evaluate.freshness import run  # noqa: PLC0415
        from nextwatch.evaluate.progress import progress  # noqa: PLC0415
        from nextwatch.evaluate.report import rounded  # noqa: PLC0415
    except ImportError as error:
        raise DatasetError(
            f"freshness needs {(error.name or '').partition('.')[0]}: "
            "pip install 'nextwatch[train,evaluate]'"
        ) from None

    trial = run.FreshnessTrial(
        directory=directory_of_kuairand(data),
        model=model,
        window=window,
        num_seeds=seeds,
        overrides=overrides_of(settings or []),
    )
    try:
        run.check(trial)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    torch.set_num_threads(threads)
    console = Console(stderr=True)
    with progress("freshness", console) as tell:
        result = run.run(trial, tell=tell)
    typer.echo(json.dumps(rounded(result)) if as_json else reports.table(result))
    if report is not None:
        say_written(console, reports.write_report(result, report))
