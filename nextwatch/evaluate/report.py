"""Write results as a table in Markdown, and as a picture of recall by day."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from contract.errors import DatasetError
from nextwatch.evaluate.ranks import MEASURES

CURVE = "recall_at_100"
_COLUMNS = {
    **{f"recall_at_{k}": f"R@{k}" for k in (10, 20, 50, 100, 200)},
    "ndcg_at_10": "NDCG@10",
    "mrr": "MRR",
    "coverage_at_100": "cov@100",
    "gini_at_100": "Gini@100",
}
_PAGE = """# Retrieval, measured

Written by `nextwatch evaluate retrieval`. The page on evaluation says what the figures mean, how to
get them and what is to be seen in them. Brackets hold 95 % of 1,000 bootstrap draws of users;
learning is CPU seconds, scoring CPU milliseconds a case.
"""

Result = Mapping[str, Any]


def lines_of(result: Result) -> list[tuple[str, Result]]:
    """Return (name, figures) of all contenders, models first, each with its frozen copies below."""
    told: list[tuple[str, Result]] = []
    for name, one in result["models"].items():
        told.append((f"**{name}**", one))
        told += [
            (f"{name}, {words}", one[way])
            for way, words in (
                ("first_start", "first start"),
                ("counters_only", "counters only"),
                ("frozen", "frozen"),
                ("frozen_windows", "frozen, windows too"),
            )
            if one.get(way)
        ]
    baselines = result["baselines"].items()
    return told + sorted(baselines, key=lambda item: -item[1][CURVE])


def table(result: Result) -> str:
    """Return the figures of *result* as a Markdown table under a heading."""
    window = f", {result['window']} window" if result["window"] else ""
    start = result.get("start", "histories")
    window += "" if start == "histories" else f", starts from {start}"
    heading = f"## {result['data']}{window}: n = {result['n']:,} among {result['num_videos']:,}"
    settings = ", ".join(f"{name} = {value}" for name, value in result["overrides"].items())
    return "\n".join(
        [
            heading,
            "",
            f"Seeds of a model: {_seeds(result)}.{f' Settings: {settings}.' if settings else ''}",
            "",
            *_rows(result),
            "",
            *_cold_rows(result),
        ]
    )


def _seeds(result: Result) -> str:
    """Return how many seeds each model was run with, told once where it is the same for all."""
    counts = {name: one["seeds"] for name, one in result["models"].items()}
    if len(set(counts.values())) <= 1:
        return str(next(iter(counts.values()), result["seeds"]))
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _cold_rows(result: Result) -> Iterator[str]:
    """Yield the table of the cases whose video nobody had completed before, if there are any."""
    lines = [(name, figures["cold"]) for name, figures in lines_of(result) if "cold" in figures]
    if not lines or not lines[0][1]["n"]:
        return
    yield f"Videos that nobody had completed before, n = {lines[0][1]['n']:,}:"
    yield ""
    yield _row(["", *(_COLUMNS[name] for name in MEASURES)])
    yield _row(["---"] * (1 + len(MEASURES)))
    for name, figures in lines:
        yield _row([name, *(_short(figures[measure]) for measure in MEASURES)])
    yield ""


def _rows(result: Result) -> Iterator[str]:
    names = ["", *_COLUMNS.values(), f"95 % of {_COLUMNS[CURVE]}", "learning", "scoring"]
    yield _row(names)
    yield _row(["---"] * len(names))
    for name, figures in lines_of(result):
        low, high = figures["intervals"][CURVE]
        cost = figures.get("train_seconds"), figures.get("score_ms")
        yield _row(
            [
                name,
                *(_short(figures[column]) for column in _COLUMNS),
                f"[{_short(low)}, {_short(high)}]",
                "" if cost[0] is None else f"{cost[0]:,.0f} s",
                "" if cost[1] is None else f"{cost[1]:.2f} ms",
            ]
        )


def write_page(results: Sequence[Result], page: Path) -> list[Path]:
    """Write a table per trial, and beside the page a picture of each; return what was written.

    Raises:
        DatasetError: matplotlib is not installed.
    """
    page.parent.mkdir(parents=True, exist_ok=True)
    parts, written = [_PAGE], [page]
    for result in results:
        parts.append(table(result))
        if any(len(figures["per_day"]) > 1 for _, figures in lines_of(result)):
            picture = page.with_name(f"{page.stem}-{result['data']}.png")
            draw(result, picture)
            written.append(picture)
            parts.append(f"![recall@100 by day on {result['data']}]({picture.name})\n")
    page.write_text("\n".join(parts), encoding="utf-8")
    return written


def write_report(results: Sequence[Result], directory: Path) -> list[Path]:
    """Write the page with its pictures, and the figures as JSON; return what was written.

    Raises:
        DatasetError: matplotlib is not installed.
    """
    written = write_page(results, directory / "retrieval.md")
    figures = directory / "retrieval.json"
    figures.write_text(json.dumps(list(results), indent=1), encoding="utf-8")
    return [*written, figures]


def new_figure(width: float, height: float) -> Any:
    """Return a new matplotlib figure, in inches, which draws without a display.

    Raises:
        DatasetError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an extra
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise DatasetError(
            "a picture needs matplotlib: pip install 'nextwatch[evaluate]'"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw(result: Result, path: Path) -> None:
    """Draw recall@100 by day, of the models, their frozen copies, and the best baselines.

    Raises:
        DatasetError: matplotlib is not installed.
    """
    figure = new_figure(9, 5)
    axes = figure.add_subplot()
    for curve in _curves(result):
        days = sorted(curve.figures["per_day"])
        values = [curve.figures["per_day"][day][CURVE] for day in days]
        axes.plot(
            *(days, values, curve.style),
            color=curve.color,
            label=curve.name,
            marker="o",
            markersize=3,
        )
    axes.set_ylabel("recall@100, whole catalogue")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.set_title(f"{result['data']}: before each completed watch of something new")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120)


class _Curve(NamedTuple):
    name: str
    figures: Result
    style: str
    color: str


def _curves(result: Result) -> Iterator[_Curve]:
    """Yield a colour for each model, dashed where it stands still, and the baselines in grey."""
    for place, (name, figures) in enumerate(result["models"].items()):
        color = f"C{place % 10}"
        yield _Curve(name, figures, "-", color)
        if figures.get("frozen"):
            yield _Curve(f"{name}, frozen", figures["frozen"], "--", color)
    best = sorted(result["baselines"].items(), key=lambda item: -item[1][CURVE])
    for (name, figures), grey in zip(best, ("0.2", "0.5", "0.7"), strict=False):
        yield _Curve(name, figures, ":", grey)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _short(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def rounded(value: Any) -> Any:
    """Return *value* with all floats in it to six digits, for printing."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, Mapping):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return value


assert all(name in _COLUMNS for name in MEASURES), "every measure has a column"
