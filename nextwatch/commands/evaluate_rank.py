"""Define `nextwatch evaluate rank`; `nextwatch.commands.cli` registers it."""

import json
from typing import Annotated

import typer

from contract.errors import DatasetError
from nextwatch.commands.evaluate import (
    JsonOption,
    KuaiRandOption,
    ReportOption,
    directory_of_kuairand,
    say_written,
)


def rank(
    *,
    data: KuaiRandOption,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            metavar="prequential|static|techjam",
            help="How it is measured; may be given repeatedly. Default: prequential.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Who takes part; may be given repeatedly. Default: everybody."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each model, all in one replay.")] = 1,
    window: Annotated[
        str,
        typer.Option(
            metavar="tune|test",
            help="29-30 April, for choosing anything, or 1-4 May, for the verdict.",
        ),
    ] = "test",
    ablations: Annotated[
        bool,
        typer.Option(
            "--ablations",
            help="The default ranker with one thing changed: Covington 2016, section 4.3.",
        ),
    ] = False,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score every exposure before anything learns from it: is it watched, and for how long?

    prequential: exposures in the order of time; all score, then learn; clicks of 1 to 4 May.
    static: all learn from 25 to 30 April and no more. techjam: long views; order within users
    over 29 April to 4 May, and as the mean of the days 25 to 28 April.

    Order within a user (gauc, ndcg_at_5, weighted_per_user_loss) is read with the user's own
    state still: a user's running click rate leaves out the exposure that is scored, and so gives
    it away. The contender `control` is minus that rate; it takes part in every run and must be at
    chance. All else (auc, log_loss, mae_s, xauc, predicted_to_watched_total) is read live.

    For example:

    nextwatch evaluate rank --data kuairand:../data/kuairand --json

    nextwatch evaluate rank --data kuairand:../data/kuairand --model lightgbm --window tune

    nextwatch evaluate rank --data kuairand:../data/kuairand --protocol static --protocol techjam
    --seeds 3 --report out
    """
    from rich.console import Console  # noqa: PLC0415

    try:
        from nextwatch.evaluate.progress import progress  # noqa: PLC0415
        from nextwatch.evaluate.ranking import entrants, protocols, run  # noqa: PLC0415
        from nextwatch.evaluate.ranking import report as reports  # noqa: PLC0415
        from nextwatch.evaluate.report import rounded  # noqa: PLC0415
    except ImportError as error:
        raise DatasetError(
            f"evaluating needs {(error.name or '').partition('.')[0]}: pip install 'nextwatch[evaluate]'"
        ) from None

    directory = directory_of_kuairand(data)
    names = protocol or ["prequential"]
    for name in names:
        protocols.protocol(name, window=window)
    models = list(model or [])
    entrants.check(models)
    if ablations:
        models += [entrants.DEFAULT.name, *entrants.ABLATIONS]
    trials = [
        run.RankTrial(
            directory=directory,
            protocol=name,
            window=window,
            models=models,
            num_seeds=seeds,
        )
        for name in names
    ]
    console = Console(stderr=True)
    results = []
    for trial in trials:
        with progress(trial.protocol, console) as tell:
            results.append(run.run(trial, tell=tell))
    if as_json:
        told = results[0] if len(results) == 1 else {"trials": results}
        typer.echo(json.dumps(reports.known(rounded(told))))
    else:
        typer.echo("\n".join(map(reports.table, results)))
    if report is not None:
        say_written(console, reports.write_report(results, report))
