"""The page of metrics says what the processes serve."""

from pathlib import Path

from typer.testing import CliRunner

from contract.metrics.definitions import METRICS
from nextwatch import metrics_reference
from nextwatch.commands import cli

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_current():
    """If this fails: python -m nextwatch.metrics_reference > docs/metrics.md."""
    assert (DOCS / "metrics.md").read_text() == metrics_reference.render()


def test_the_command_line_prints_the_page():
    """Whoever has no checkout has the page, too."""
    assert CliRunner().invoke(cli.app, ["metrics"]).output == metrics_reference.render()


def test_every_metric_has_one_row():
    """In the one table; no other page repeats a meaning."""
    rows = [line for line in metrics_reference.render().splitlines() if line.startswith("| `")]
    named = [line.split("`")[1] for line in rows]

    assert {metric.name for metric in METRICS} <= set(named)
    assert len(named) == len(set(named))
