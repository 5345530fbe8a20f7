"""Define the batch commands; `nextwatch.commands.cli` registers them.

What a command needs is imported when it runs: `--help` must not wait for numpy and Kafka.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nextwatch.operate.session import outbox_of, to_json, usage_errors

if TYPE_CHECKING:
    from contract.wire.events import HottestVideos, SimilarVideos
    from contract.wire.topics import Topic
    from nextwatch.batch.inputs import Inputs
    from nextwatch.batch.progress import Tell

batch_app = typer.Typer(
    no_args_is_help=True,
    help="""Offline products: lists of videos, one list for every user, predictions of given pairs.

They are made from the windows on the broker and the bundle in service, or from a log (--data), and
written to a file (--out) or to a topic that streams takes candidates from (--publish).""",
)

Data = Annotated[
    str | None,
    typer.Option(
        metavar="kuairand:DIR|movielens:DIR",
        help="Read a log in place of the windows on the broker.",
    ),
]
Bundle = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|URL", help="Use this bundle, and not the one in service. A log needs one."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", dir_okay=False, help="Write there: FILE.parquet or FILE.jsonl."),
]
OutFile = Annotated[
    Path,
    typer.Option(metavar="FILE", dir_okay=False, help="Write there: FILE.parquet or FILE.jsonl."),
]
Publish = Annotated[
    bool, typer.Option("--publish", help="Publish the lists; those of before that are gone go.")
]
Bootstrap = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers", help="The broker; NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS when not given."
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the summary as one JSON object, the last line.")
]


@batch_app.callback()
def batch() -> None:
    """Make offline products."""


@batch_app.command("hottest")
def hottest(
    *,
    data: Data = None,
    out: Out = None,
    publish: Publish = False,
    most: Annotated[int, typer.Option(min=1, max=200, help="Videos of a list.")] = 100,
    min_users: Annotated[
        int,
        typer.Option(
            min=1, help="A video that fewer users have watched is on no list: it tells of people."
        ),
    ] = 3,
    bootstrap_servers: Bootstrap = None,
    as_json: Json = False,
) -> None:
    """List the most watched videos, of all, of each country and of each category.

    Lists are called hottest:24h:all, hottest:24h:country=DE, hottest:24h:category=music, and the
    same with 1h and 7d: the half-life of a watch. A user counts for a video once in each interval
    of that length. Windows know the country, a log does not.

    Examples: nextwatch batch hottest --out hottest.jsonl

    nextwatch batch hottest --publish --json | jq .lists

    nextwatch batch hottest --data kuairand:../data/kuairand --out hottest.parquet
    """
    from contract.wire.events import HottestVideos  # noqa: PLC0415
    from contract.wire.topics import HOTTEST_VIDEOS  # noqa: PLC0415
    from models.features.examples import CompletionRule  # noqa: PLC0415
    from nextwatch.batch import hottest as job  # noqa: PLC0415

    started_s = monotonic()
    inputs = _inputs(data, None, bootstrap_servers, out, publish=publish)
    with inputs.watched(CompletionRule()) as watched, _progress("hottest", "watches") as tell:
        found = job.hottest(
            _told(watched, tell), inputs.categories(), most=most, min_users=min_users
        )
    summary = {
        "watches": found.num_watches,
        "videos": len(watched.videos),
        "countries": len(watched.countries) - 1,
        "lists": len(found.lists),
        "lists_unnamed": found.num_unnamed,
    }
    summary |= _given(found.lists, HottestVideos, HOTTEST_VIDEOS, inputs, out, publish=publish)
    _end(summary, started_s, found.num_watches, "watches", as_json=as_json)


@batch_app.command("similar")
def similar(
    *,
    data: Data = None,
    bundle: Bundle = None,
    out: Out = None,
    publish: Publish = False,
    most: Annotated[int, typer.Option(min=1, max=200, help="Videos of a list.")] = 50,
    vectors: Annotated[
        bool,
        typer.Option(
            "--vectors/--no-vectors",
            help="Beside co-visitation, the neighbours of the item vectors: of the bundle, or, for"
            " a log without one, learned from it.",
        ),
    ] = True,
    bootstrap_servers: Bootstrap = None,
    as_json: Json = False,
) -> None:
    """List for each video those that are watched after it, and those whose vectors are near.

    The two are fitted each on its own and blended by their places. With --data it also says how
    good each is: for what share of later watches the video is among the first 20 of the list of the
    watch before it (hit_rate_at_20), everything fitted on the first four fifths of the watches.

    Examples: nextwatch batch similar --publish

    nextwatch batch similar --data movielens:../data/ml-latest-small --out similar.parquet

    nextwatch batch similar --data kuairand:../data/kuairand --bundle bundles/b1 --json
    """
    from contract.wire.events import SimilarVideos  # noqa: PLC0415
    from contract.wire.topics import SIMILAR_VIDEOS  # noqa: PLC0415
    from models.features.examples import CompletionRule  # noqa: PLC0415
    from nextwatch.batch.fitting import HIT_AT, fit  # noqa: PLC0415

    started_s = monotonic()
    inputs = _inputs(data, bundle, bootstrap_servers, out, publish=publish, may_be_neither=True)
    is_learned = vectors and data is not None and bundle is None
    if is_learned and find_spec("torch") is None:
        typer.secho(
            "no vectors: learning them needs torch (pip install 'nextwatch[train]'), or name a "
            "bundle with --bundle",
            fg="yellow",
            err=True,
        )
        is_learned = False
    served = inputs.served() if vectors and not is_learned and (bundle or not data) else None
    rule = served.serving.completion if served else CompletionRule()
    with inputs.watched(rule) as watched, _progress("similar", "watches") as tell:
        found = fit(
            _told(watched, tell),
            served.serving.items if served else None,
            most=most,
            is_vectors_fitted=is_learned,
            has_figures=data is not None,
        )
    summary: dict[str, Any] = {
        "videos": len(watched.videos),
        "lists": len(found.lists),
        "lists_by_method": dict(found.num_videos_of),
    }
    if data is not None:
        rates = {name: round(rate, 4) for name, rate in found.hit_rates.items()}
        summary |= {f"hit_rate_at_{HIT_AT}": rates, "cases": found.num_cases}
    summary |= _given(found.lists, SimilarVideos, SIMILAR_VIDEOS, inputs, out, publish=publish)
    _end(summary, started_s, len(watched.videos), "videos", as_json=as_json)


@batch_app.command("recommend")
def recommend(  # noqa: PLR0913 - options
    *,
    out: OutFile,
    data: Data = None,
    bundle: Bundle = None,
    number: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=500,
            help="Videos of a list; NEXTWATCH_STREAMS_NUM_RECOMMENDED when not given.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=64, help="As many as there are processors by default.")
    ] = None,
    work_dir: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="What is done is kept there until the end; FILE.work by default. Other files in it"
            " stay.",
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, with the windows of now.")
    ] = False,
    bootstrap_servers: Bootstrap = None,
    as_json: Json = False,
) -> None:
    """Make one list for every known user, as streams would now, by a search in memory.

    Killed or interrupted, it goes on where it was when the same command is given again: with the
    same windows, and the same bundle or not at all. NEXTWATCH_STREAMS_* and NEXTWATCH_WINDOW_*
    count as they do for streams.

    Examples: nextwatch batch recommend --out lists.parquet

    nextwatch batch recommend --out lists.jsonl --number 50 --threads 2 --json

    nextwatch batch recommend --data kuairand:../data/kuairand --bundle bundles/b1 --out l.parquet
    """
    from nextwatch.batch.recommend import (  # noqa: PLC0415
        WINDOWS,
        RecommendRun,
        begun_in,
        discard,
    )
    from nextwatch.sources.run import stop_on_signals  # noqa: PLC0415

    started_s = monotonic()
    inputs = _inputs(data, bundle, bootstrap_servers, out, publish=False)
    kept = work_dir or out.with_name(out.name + ".work")
    if restart:
        discard(kept)
    num_before = begun.num_users if (begun := begun_in(kept)) else 0
    served = inputs.served()
    num_recommended = number or served.settings.num_recommended
    with inputs.users(kept / WINDOWS) as users, stop_on_signals() as stop:
        run = RecommendRun(
            users=users,
            make_recommender=lambda: served.recommender(num_recommended=num_recommended),
            bundle_id=served.serving.bundle_id,
            number=num_recommended,
            path=out,
            work_dir=kept,
            num_threads=threads or os.cpu_count() or 1,
            data=data or "",
        )
        ranked_s = monotonic()
        with _progress("recommend", "users") as tell:
            done = run.run(tell, should_stop=stop.is_set)
        took_s = monotonic() - ranked_s
    num_made = done.num_users - num_before
    summary = {
        "users": done.num_users,
        "users_resumed": num_before,
        "videos": len(served.serving.items),
        "bundle_id": done.bundle_id,
        "generation": served.serving.generation,
        "users_per_s": round(num_made / max(took_s, 1e-9), 1),
        "is_whole": not stop.is_set(),
        "out": str(out),
    }
    if not stop.is_set():
        discard(kept)
    _end(summary, started_s, num_made, "users", as_json=as_json)
    if stop.is_set():
        typer.echo(f"interrupted: the same command goes on from {kept}", err=True)
        raise typer.Exit(1)


@batch_app.command("predict")
def predict(
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS",
            dir_okay=False,
            help="A .csv, .parquet or .jsonl file with the columns user_id and video_id.",
        ),
    ],
    *,
    out: OutFile,
    data: Data = None,
    bundle: Bundle = None,
    bootstrap_servers: Bootstrap = None,
    as_json: Json = False,
) -> None:
    """Predict score and expected watch time of pairs of user and video, in their order.

    The numbers are those of the ranker, before the rules that follow it. A user who is not known is
    predicted by an empty window, and a video that the bundle does not have has no numbers.

    Examples: nextwatch batch predict pairs.csv --out predicted.parquet

    nextwatch batch predict pairs.parquet --bundle bundles/b1 --out predicted.jsonl --json
    """
    from nextwatch.batch import predict as job  # noqa: PLC0415
    from nextwatch.batch.rows import written  # noqa: PLC0415

    started_s = monotonic()
    given = job.pairs_in(pairs)
    inputs = _inputs(data, bundle, bootstrap_servers, out, publish=False)
    served = inputs.served()
    counts = {"pairs": 0, "pairs_without_video": 0, "pairs_of_unknown_users": 0}
    with (
        inputs.users() as users,
        _progress("predict", "pairs") as tell,
        written(out, job.Prediction) as rows,
    ):
        for chunk in job.predict(served.serving, users, given):
            rows.write(chunk)
            counts["pairs"] += len(chunk)
            counts["pairs_without_video"] += sum(one.score is None for one in chunk)
            counts["pairs_of_unknown_users"] += sum(not one.num_watches for one in chunk)
            tell(counts["pairs"], 0)
    summary = {**counts, "bundle_id": served.serving.bundle_id, "out": str(out)}
    _end(summary, started_s, counts["pairs"], "pairs", as_json=as_json)


def _inputs(
    data: str | None,
    bundle: str | None,
    bootstrap_servers: str | None,
    out: Path | None,
    *,
    publish: bool,
    may_be_neither: bool = False,
) -> "Inputs":
    """Return the inputs, once it is clear where the product goes."""
    from nextwatch.batch.inputs import Inputs  # noqa: PLC0415
    from nextwatch.batch.rows import check_name  # noqa: PLC0415

    if out is None and not publish and not (may_be_neither and data):
        raise typer.BadParameter("give --out FILE, --publish, or both: else nothing comes of it")
    if out is not None:
        with usage_errors():
            check_name(out)
    return Inputs(data=data, bundle=bundle, bootstrap_servers=bootstrap_servers)


def _given(
    lists: "list[Any]",
    kind: "type[SimilarVideos | HottestVideos]",
    topic: "Topic",
    inputs: "Inputs",
    out: Path | None,
    *,
    publish: bool,
) -> dict[str, Any]:
    """Write and publish *lists*, as asked; return what to add to the summary."""
    from nextwatch.batch.publish import publish as publish_lists  # noqa: PLC0415
    from nextwatch.batch.rows import written  # noqa: PLC0415

    told: dict[str, Any] = {}
    if out is not None:
        with written(out, kind) as rows:
            rows.write(lists)
        told["out"] = str(out)
    if publish:
        with inputs.scan() as scan, _progress("publish", "lists") as tell:
            done = publish_lists(
                lists,
                topic,
                inputs.kafka.layout,
                scan=scan,
                outbox=outbox_of(inputs.kafka),
                tell=tell,
            )
        told |= {"published": done.num_lists, "removed": done.num_removed}
    return told


@contextmanager
def _progress(title: str, what: str) -> "Iterator[Tell]":
    from rich.console import Console  # noqa: PLC0415

    from nextwatch.batch.progress import progress  # noqa: PLC0415

    console: Console = Console(stderr=True)
    with progress(f"{title}: {what}", console) as tell:
        yield tell


def _told(watched: Any, tell: "Tell") -> Any:
    from nextwatch.batch.watched import ToldWatched  # noqa: PLC0415

    return ToldWatched(watched, tell)


def _end(summary: dict[str, Any], started_s: float, done: int, what: str, *, as_json: bool) -> None:
    """Print the summary, with the time it took and how many of what were done in a second."""
    took_s = monotonic() - started_s
    summary |= {"seconds": round(took_s, 2)}
    summary.setdefault(f"{what}_per_s", round(done / max(took_s, 1e-9), 1))
    if as_json:
        typer.echo(to_json(summary))
        return
    width = max(map(len, summary))
    for name, value in summary.items():
        typer.echo(f"{name:<{width}}  {_cell(value)}")


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(part)}" for name, part in value.items()) or "-"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:,}" if is_number else str(value)
