"""Write the figures of rankers as a table in Markdown, as pictures, and as JSON."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nextwatch.evaluate.report import new_figure

Result = Mapping[str, Any]

_COLUMNS = {
    "gauc": "GAUC",
    "ndcg_at_5": "NDCG@5",
    "weighted_per_user_loss": "weighted loss",
    "auc": "AUC",
    "log_loss": "log loss",
    "mae_s": "MAE s",
    "xauc": "XAUC",
    "predicted_to_watched_total": "predicted / watched",
}
_WHOLE = ("mae_s", "predicted_to_watched_total")
_WORDS = {
    "prequential": "score, then learn",
    "static": "learn from the days before, then score",
    "techjam": "score, then learn; only order within users counts",
}


def table(result: Result) -> str:
    """Return the figures of all contenders as Markdown under a heading, best GAUC first."""
    heading = f"## {result['data']}, {result['protocol']}: {_WORDS[result['protocol']]}"
    about = (
        f"Label {result['label']}, {result['period']}, {result['n']:,} exposures of"
        f" {result['num_users']:,} users, {result['positive_share']:.1%} positive."
        f" Seeds: {result['seeds']}. GAUC, NDCG@5 and weighted loss with the user's own state"
        " still, the rest live."
    )
    lines = [heading, "", about, "", *_rows(result), ""]
    lines += _period_lines(result)
    if not result["is_control_at_chance"]:
        lines += ["**The control is not at chance: no figure within users can be trusted.**", ""]
    return "\n".join(lines)


def _rows(result: Result) -> Iterator[str]:
    names = ["", *_COLUMNS.values(), "95 % of GAUC", "95 % of AUC", "frozen GAUC"]
    yield _row(names)
    yield _row(["---"] * len(names))
    for name, told in in_order(result):
        yield _row(
            [
                name,
                *(_short(told[column], whole=column in _WHOLE) for column in _COLUMNS),
                *(_interval(told["intervals"][column]) for column in ("gauc", "auc")),
                _short(told["frozen"]["gauc"]) if "frozen" in told else "",
            ]
        )


def _period_lines(result: Result) -> Iterator[str]:
    """Yield a small table for each further period, of order within users."""
    names = {period for _, told in in_order(result) for period in told["periods"]}
    for period in sorted(names):
        yield f"{period}, mean of the days:"
        yield ""
        yield _row(["", "GAUC", "NDCG@5"])
        yield _row(["---"] * 3)
        for name, told in in_order(result):
            figures = told["periods"][period]
            yield _row([name, _short(figures["gauc"]), _short(figures["ndcg_at_5"])])
        yield ""


def in_order(result: Result) -> list[tuple[str, Result]]:
    """Return (name, figures) of all contenders, best GAUC first."""
    return sorted(result["contenders"].items(), key=lambda item: -item[1]["gauc"])


def write_report(results: Sequence[Result], directory: Path) -> list[Path]:
    """Write the tables, a picture of each result, and the figures; return what was written.

    Raises:
        DatasetError: matplotlib is not installed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    page, figures = directory / "ranking.md", directory / "ranking.json"
    parts, pictures = ["# Ranking, measured\n"], []
    for result in results:
        picture = directory / f"ranking-{result['protocol']}.png"
        draw(result, picture)
        pictures.append(picture)
        parts += [table(result), f"![by day, and calibration]({picture.name})\n"]
    page.write_text("\n".join(parts), encoding="utf-8")
    figures.write_text(json.dumps(known(list(results)), indent=1), encoding="utf-8")
    return [page, *pictures, figures]


def draw(result: Result, path: Path) -> None:
    """Draw GAUC by day, and the predicted over the watched time by decile of duration.

    Raises:
        DatasetError: matplotlib is not installed.
    """
    figure = new_figure(12, 5)
    by_day, by_duration = figure.subplots(1, 2)
    for place, (name, told) in enumerate(in_order(result)):
        color = f"C{place % 10}"
        days = sorted(told["per_day"])
        values = [told["per_day"][day]["gauc"] for day in days]
        by_day.plot(days, values, color=color, label=name, marker="o", markersize=3)
        deciles = told["calibration"]["by_duration"]
        by_duration.plot(
            range(1, len(deciles) + 1), [one["ratio"] for one in deciles], color=color, label=name
        )
    by_day.set_ylabel("GAUC, own state still")
    by_day.tick_params(axis="x", labelrotation=30)
    by_duration.axhspan(0.95, 1.05, color="0.9")
    by_duration.set_ylabel("predicted / watched total")
    by_duration.set_xlabel("decile of duration")
    for axes in (by_day, by_duration):
        axes.grid(alpha=0.3)
    by_duration.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle(f"{result['data']}, {result['protocol']}, {result['period']}")
    figure.savefig(path, dpi=120)


def known(value: Any) -> Any:
    """Return *value* with None for every figure that is not a number, as JSON has none."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Mapping):
        return {name: known(one) for name, one in value.items()}
    if isinstance(value, list):
        return [known(one) for one in value]
    return value


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _interval(bounds: Sequence[float]) -> str:
    return f"[{_short(bounds[0])}, {_short(bounds[1])}]"


def _short(value: float, *, whole: bool = False) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if whole else f"{value:.4f}".removeprefix("0")
