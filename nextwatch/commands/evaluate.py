"""Define the commands of evaluation; `nextwatch.commands.cli` registers them.

What a command needs is imported when it runs: `--help` must not wait for numpy and torch.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from contract.errors import DatasetError

if TYPE_CHECKING:
    from nextwatch.evaluate.entrants import Start
    from nextwatch.evaluate.run import Trial

evaluate_app = typer.Typer(
    no_args_is_help=True, help="Measure models on real logs, beside the baselines to beat."
)

KuaiRandOption = Annotated[
    str, typer.Option("--data", metavar="kuairand:DIR", help="The log, and the folder it is in.")
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="DIR", file_okay=False, help="Write table, pictures and figures there."
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="End with one JSON object of figures on stdout.")
]


@evaluate_app.callback()
def evaluate() -> None:
    """Measure models on real logs, beside the baselines to beat."""


@evaluate_app.command("retrieval")
def retrieval(  # noqa: PLR0913 - options
    *,
    data: Annotated[
        list[str],
        typer.Option(
            metavar="kuairand:DIR|ml1m:DIR|movielens:DIR",
            help="The log, and the folder it is in. May be given repeatedly.",
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Who is measured; may be given repeatedly."),
    ] = None,
    every_model: Annotated[
        bool, typer.Option("--all", help="Measure every model, and write the page of results.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each model, all in one replay.")] = 3,
    window: Annotated[
        str,
        typer.Option(
            metavar="tune|test",
            help="kuairand: 25-30 April, for choosing anything, or 1-4 May, for the verdict.",
        ),
    ] = "test",
    frozen: Annotated[
        bool,
        typer.Option(
            "--frozen/--no-frozen", help="Beside each model, itself as it was before the window."
        ),
    ] = True,
    start: Annotated[
        str,
        typer.Option(
            metavar="histories|windows|nothing",
            help="kuairand: what is known before the log. histories: all were learned; windows:"
            " streams keeps them, and the trainer starts for the first time.",
        ),
    ] = "histories",
    first_start: Annotated[
        bool,
        typer.Option(
            "--first-start/--no-first-start",
            help="kuairand: beside each model, itself with --start windows.",
        ),
    ] = True,
    backlog_passes: Annotated[
        int,
        typer.Option(
            min=0,
            max=100,
            help="With --start nothing: so many passes over what comes before the window, as a trainer"
            " makes with NEXTWATCH_TRAINER_BACKFILL_PASSES; 0, watch by watch.",
        ),
    ] = 0,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="The baselines in the same run.")
    ] = True,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Change a setting of the models, or with recipe.NAME of how they learn histories.",
        ),
    ] = None,
    max_watches: Annotated[
        int, typer.Option(min=1, max=300, help="How many watches a history window remembers.")
    ] = 50,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Keep each run there, and take from there what the same code and settings ran.",
        ),
    ] = None,
    report: ReportOption = None,
    page: Annotated[
        Path,
        typer.Option(metavar="FILE", dir_okay=False, help="What --all writes."),
    ] = Path("docs/results/retrieval.md"),
    as_json: JsonOption = False,
) -> None:
    """Rank the whole catalogue before each watch of something new, then learn from it.

    On kuairand and movielens the log is replayed in the order of time (prequential); on ml1m the
    last film of each user is left out. Models learn as in the trainer and are scored through their
    exported towers, as served. Everything is reproducible by seed.

    For example:

    nextwatch evaluate retrieval --data kuairand:../data/kuairand --model youtube_dnn

    nextwatch evaluate retrieval --data kuairand:../data/kuairand --model youtube_dnn --window tune
    --seeds 1 --no-frozen --no-baselines --set dim=32 --json

    nextwatch evaluate retrieval --data ml1m:../data/ml1m --model sasrec --report out

    nextwatch evaluate retrieval --data kuairand:../data/kuairand --data ml1m:../data/ml1m --all
    """
    import warnings  # noqa: PLC0415

    from rich.console import Console  # noqa: PLC0415

    from models.history.history import WindowPolicy  # noqa: PLC0415
    from nextwatch.evaluate.logs.kuairand import WINDOWS  # noqa: PLC0415

    try:
        from nextwatch.evaluate import report as reports  # noqa: PLC0415
        from nextwatch.evaluate.entrants import STARTS  # noqa: PLC0415
        from nextwatch.evaluate.run import Trial, split  # noqa: PLC0415
    except ImportError as error:
        raise DatasetError(
            f"evaluating needs {(error.name or '').partition('.')[0]}: pip install 'nextwatch[evaluate]'"
        ) from None

    if window not in WINDOWS:
        raise typer.BadParameter(f"--window is one of {', '.join(WINDOWS)}, got {window!r}")
    if start not in STARTS:
        raise typer.BadParameter(f"--start is one of {', '.join(STARTS)}, got {start!r}")
    overrides = overrides_of(settings or [])
    sources = [split(one) for one in data]
    names = _names(model or [], threads, is_all=every_model)
    _check(names, [source for source, _ in sources], overrides)
    trials = [
        Trial(
            source=source,
            directory=directory,
            models=names,
            num_seeds=seeds,
            is_frozen_too=frozen,
            has_baselines=baselines,
            start=cast("Start", start),
            has_first_start=first_start,
            backlog_passes=backlog_passes,
            window=window,
            overrides=overrides,
            policy=WindowPolicy(max_watches=max_watches),
            kept=keep,
        )
        for source, directory in sources
    ]
    console = Console(stderr=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="threadpoolctl|implicit")
        results = [_run(trial, console) for trial in trials]
    if as_json:
        typer.echo(json.dumps(reports.rounded(_flat(results))))
    else:
        typer.echo("\n".join(map(reports.table, results)))
    if every_model:
        say_written(console, reports.write_page(results, page))
    if report is not None:
        say_written(console, reports.write_report(results, report))


@evaluate_app.command("two-stage")
def two_stage(
    *,
    data: KuaiRandOption,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Who retrieves the candidates.")
    ] = "youtube_dnn",
    ranker: Annotated[
        str, typer.Option(metavar="NAME", help="Who orders the candidates.")
    ] = "expected_watch_time",
    window: Annotated[
        str,
        typer.Option(
            metavar="tune|test",
            help="25-30 April, for choosing anything, or 1-4 May, for the verdict.",
        ),
    ] = "test",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of both stages, all in one replay.")] = 1,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank the whole catalogue by both stages: retrieval finds 200 videos, a ranker orders them.

    The protocol is that of `nextwatch evaluate retrieval` on kuairand. The 200 stand above all
    other videos in the order in which they would be served; the ranker learns online from every
    exposure. Retrieval alone takes part in the same run. The figures say what each stage loses:
    videos that are not among the 200 (retrieval_recall_at_200), and the order of the others.

    For example:

    nextwatch evaluate two-stage --data kuairand:../data/kuairand --json

    nextwatch evaluate two-stage --data kuairand:../data/kuairand --ranker deepfm --window tune

    nextwatch evaluate two-stage --data kuairand:../data/kuairand --seeds 3 --report out
    """
    from rich.console import Console  # noqa: PLC0415

    from nextwatch.evaluate.logs.kuairand import WINDOWS  # noqa: PLC0415

    if window not in WINDOWS:
        raise typer.BadParameter(f"--window is one of {', '.join(WINDOWS)}, got {window!r}")
    try:
        from nextwatch.evaluate.progress import progress  # noqa: PLC0415
        from nextwatch.evaluate.report import rounded  # noqa: PLC0415
        from nextwatch.evaluate.two_stage import report as reports  # noqa: PLC0415
        from nextwatch.evaluate.two_stage import run  # noqa: PLC0415
    except ImportError as error:
        raise DatasetError(
            f"two stages need {(error.name or '').partition('.')[0]}: "
            "pip install 'nextwatch[train,evaluate]'"
        ) from None

    directory = directory_of_kuairand(data)
    run.check(model, ranker)
    trial = run.TwoStageTrial(
        directory=directory, model=model, ranker=ranker, window=window, num_seeds=seeds
    )
    console = Console(stderr=True)
    with progress("two-stage", console) as tell:
        result = run.run(trial, tell=tell)
    typer.echo(json.dumps(rounded(result)) if as_json else reports.table(result))
    if report is not None:
        say_written(console, reports.write_report(result, report))


def directory_of_kuairand(data: str) -> Path:
    """Return the folder that ``kuairand:DIR`` names.

    Raises:
        DatasetError: it names another source, or none.
    """
    source, _, directory = data.partition(":")
    if source != "kuairand" or not directory:
        raise DatasetError(f"unknown data {data!r}; known: kuairand:DIR")
    return Path(directory)


def _run(trial: "Trial", console: Any) -> dict[str, Any]:
    from nextwatch.evaluate import run  # noqa: PLC0415
    from nextwatch.evaluate.progress import progress  # noqa: PLC0415

    with progress(trial.source, console) as tell:
        return run.run(trial, tell=tell)


def say_written(console: Any, paths: list[Path]) -> None:
    """Say on *console* which files were written."""
    console.print(f"wrote {', '.join(map(str, paths))}", highlight=False)


def _names(given: list[str], threads: int, *, is_all: bool) -> list[str]:
    """Return who is measured, and set up torch if it is needed."""
    if bool(given) == is_all:
        raise typer.BadParameter("give --model NAME, or --all for every one")
    from nextwatch.evaluate import entrants  # noqa: PLC0415

    needy = [name for name in given if name not in entrants.baseline_names()]
    if not needy and not is_all:
        return given
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        who = ", ".join(needy) or "--all"
        raise DatasetError(f"{who} needs torch: pip install 'nextwatch[train]'") from None
    torch.set_num_threads(threads)
    return list(entrants.model_names()) if is_all else given


def _check(names: list[str], sources: list[str], overrides: dict[str, str]) -> None:
    """Refuse what cannot be, before anything is read: an unknown model, log or setting."""
    from nextwatch.evaluate import entrants  # noqa: PLC0415

    for source in sources:
        for name in names:
            if name not in entrants.baseline_names():
                try:
                    entrants.model(name, source=source, seed=0, overrides=overrides)
                except ValueError as error:
                    raise typer.BadParameter(str(error)) from None
            elif name not in (known := entrants.baselines(source)):
                raise typer.BadParameter(
                    f"{name} is no baseline of {source}; known: {', '.join(known)}"
                )


def overrides_of(settings: list[str]) -> dict[str, str]:
    """Return what ``--set NAME=VALUE`` was given, by name."""
    pairs = [setting.partition("=") for setting in settings]
    if bad := [name for name, equals, _ in pairs if not equals]:
        raise typer.BadParameter(f"--set takes NAME=VALUE, got {', '.join(bad)}")
    return {name: value for name, _, value in pairs}


def _flat(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one object: of one model on one log its figures on top, else all under ``trials``."""
    if len(results) != 1 or len(results[0]["models"]) != 1:
        return {"trials": results}
    (result,) = results
    ((name, figures),) = result["models"].items()
    rest = {key: value for key, value in result.items() if key != "models"}
    return {"model": name, **rest, **figures}
