"""Write what freshness is worth as a table in Markdown, and as a picture."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nextwatch.evaluate.freshness.entrant import COUNTERS, SYNCS_MS, USER_VECTORS_MS, Ages
from nextwatch.evaluate.report import new_figure

MEASURE = "recall_at_100"
Result = Mapping[str, Any]


def table(result: Result) -> str:
    """Return recall@100 by how often weights are synced, counters, and user vectors."""
    return "\n".join(_lines(result))


def _lines(result: Result) -> Iterator[str]:
    by_ages = {_ages(row): row for row in result["rows"]}
    yield (
        f"## {result['data']}, {result['window']} window: n = {result['n']:,} among "
        f"{result['num_videos']:,}"
    )
    settings = ", ".join(f"{name} = {value}" for name, value in result["overrides"].items())
    yield ""
    yield (
        f"Recall@100 of {result['model']}, seeds: {result['seeds']}."
        f"{f' Settings: {settings}.' if settings else ''} Brackets hold 95 % of the bootstrap draws"
    )
    yield "of users; behind them what is lost against the freshest, the first figure."
    yield ""
    names = ["weights synced", "counters", *(f"user vectors {name}" for name in USER_VECTORS_MS)]
    yield _row(names)
    yield _row(["---"] * len(names))
    for sync in SYNCS_MS:
        for counters in COUNTERS:
            cells = [_cell(by_ages[Ages(sync, counters, one)]) for one in USER_VECTORS_MS]
            yield _row([sync, counters, *cells])
    yield ""


def _ages(row: Result) -> Ages:
    return Ages(row["sync"], row["counters"], row["user_vectors"])


def _cell(row: Result) -> str:
    low, high = row["intervals"][MEASURE]
    least, most = row["lost_intervals"][MEASURE]
    lost = "" if least == most == 0 else f", lost {least:+.4f} to {most:+.4f}"
    return f"{row[MEASURE]:.4f} [{low:.4f}, {high:.4f}]{lost}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def write_report(result: Result, directory: Path) -> list[Path]:
    """Write table, picture and figures into *directory*; return what was written.

    Raises:
        DatasetError: matplotlib is not installed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    page, figures, picture = (directory / f"freshness.{suffix}" for suffix in ("md", "json", "png"))
    draw(result, picture)
    page.write_text(
        f"{table(result)}\n![recall@100 by how often weights are synced]({picture.name})\n",
        encoding="utf-8",
    )
    figures.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return [page, picture, figures]


def draw(result: Result, path: Path) -> None:
    """Draw recall@100 over the interval of syncs, a line for each of the other two ages.

    Raises:
        DatasetError: matplotlib is not installed.
    """
    by_ages = {_ages(row): row for row in result["rows"]}
    figure = new_figure(9, 5)
    axes = figure.add_subplot()
    syncs = list(SYNCS_MS)
    for color, user_vectors in enumerate(USER_VECTORS_MS):
        for counters, style in zip(COUNTERS, ("-", "--"), strict=True):
            rows = [by_ages[Ages(sync, counters, user_vectors)] for sync in syncs]
            values = [row[MEASURE] for row in rows]
            bounds = [row["intervals"][MEASURE] for row in rows]
            # points side by side, that their bars do not hide each other
            places = [
                place + 0.05 * (2 * color + (style != "-") - 2.5) for place in range(len(syncs))
            ]
            axes.errorbar(
                places,
                values,
                yerr=[
                    [value - low for value, (low, _) in zip(values, bounds, strict=True)],
                    [high - value for value, (_, high) in zip(values, bounds, strict=True)],
                ],
                fmt=f"o{style}",
                color=f"C{color}",
                markersize=3,
                capsize=2,
                linewidth=1,
                label=f"user vectors {user_vectors}, counters {counters}",
            )
    axes.set_xticks(range(len(syncs)), syncs)
    axes.set_xlabel("weights synced every")
    axes.set_ylabel("recall@100, whole catalogue")
    axes.grid(alpha=0.3)
    axes.set_title(f"{result['model']} on {result['data']}: does freshness pay?")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120)
