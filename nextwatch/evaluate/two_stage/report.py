"""Write the figures of both stages as a table in Markdown, and as a picture of recall by day."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextwatch.evaluate import report as reports

Result = Mapping[str, Any]


def table(result: Result) -> str:
    """Return both stages beside retrieval alone, and what each stage loses."""
    losses = result["losses"]
    lines = [
        reports.table(_beside(result)),
        (
            f"Retrieval has the watched video among its first {result['num_candidates']} in "
            f"{result['retrieval_recall_at_200']:.1%} of the cases and loses "
            f"{losses['by_retrieval']:.1%}, whoever orders them."
        ),
        "",
        "| lost by the order | first 10 | first 100 |",
        "| --- | --- | --- |",
        *(
            f"| {name} | {losses[f'{key}_at_10']:.1%} | {losses[f'{key}_at_100']:.1%} |"
            for name, key in (
                (f"of {result['ranker']}", "by_order"),
                (f"of {result['model']}", "by_order_of_retrieval"),
            )
        ),
        "",
    ]
    return "\n".join(lines)


def write_report(result: Result, directory: Path) -> list[Path]:
    """Write table, picture and figures into *directory*; return what was written.

    Raises:
        DatasetError: matplotlib is not installed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    page, figures, picture = (directory / f"two_stage.{suffix}" for suffix in ("md", "json", "png"))
    reports.draw(_beside(result), picture)
    page.write_text(f"{table(result)}\n![recall@100 by day]({picture.name})\n", encoding="utf-8")
    figures.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return [page, picture, figures]


def _beside(result: Result) -> dict[str, Any]:
    """Return *result* as a result of retrieval, with retrieval alone as the baseline."""
    alone = {**result["retrieval"], "train_seconds": None}  # it learns with both
    return {
        **{name: result[name] for name in ("data", "window", "n", "num_videos", "seeds")},
        "overrides": {},
        "models": {f"{result['model']}, {result['ranker']}": result},
        "baselines": {f"{result['model']} alone": alone},
    }
