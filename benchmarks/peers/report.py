"""Print the standings as a table, as Markdown and as JSON."""

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.peers.contest import CUTS, ContestRun, Standing

HEADING = "## Beside its peers"
COLUMNS = (
    *("system", "answers/s", "lowest to highest", "CPU ms/event"),
    *("at events/s", "p50 ms", "p95 ms", "p99 ms", "unanswered", "degraded", "wrong windows"),
)
_NEXT_SECTION = re.compile(r"^## ", re.MULTILINE)


def rows(standings: Sequence[Standing], common_eps: float) -> list[tuple[str, ...]]:
    """Return the lines of the table, the fastest system first."""
    found = []
    for standing in sorted(standings, key=lambda each: -each.answers_eps):
        rates = [run.answers_eps for run in standing.saturated]
        runs = standing.saturated + standing.paced
        found.append(
            (
                standing.contestant.title,
                f"{standing.answers_eps:.0f}",
                f"{min(rates):.0f} to {max(rates):.0f}",
                f"{_median_cpu_ms(standing.saturated):.2f}",
                f"{common_eps:.0f}",
                *_cuts(standing.paced),
                *_flaws(runs),
            )
        )
        if standing.at_own_pace:
            cuts, flaws = _cuts(standing.at_own_pace), _flaws(standing.at_own_pace)
            title = f"{standing.contestant.title}, at 70 % of its own"
            found.append((title, "", "", "", f"{standing.own_rate_eps:.0f}", *cuts, *flaws))
    return found


def table(lines: Sequence[Sequence[str]]) -> Table:
    """Return *lines* for a terminal."""
    drawn = Table(title="The same job, on the same machine, in the same run")
    for column in COLUMNS:
        is_name = column == "system"
        drawn.add_column(column, justify="left" if is_name else "right", no_wrap=True)
    for line in lines:
        drawn.add_row(*line)
    return drawn


def markdown(lines: Sequence[Sequence[str]], facts: Mapping[str, Any]) -> str:
    """Return *lines* as a section of a page, with what must be known to read them."""
    ruler = ["---", *["---:"] * (len(COLUMNS) - 1)]
    drawn = ["| " + " | ".join(line) + " |" for line in (COLUMNS, ruler, *lines)]
    about = (
        f"`python -m benchmarks.peers`: {facts['repeats']} repeats, medians; {facts['workers']} worker(s)"
        f" of each on {facts['cpus']} processors, load average {facts['load_1m']} before the start;"
        f" {facts['users']} users of 50 watches, {facts['videos']} videos, {facts['events']} events"
        f" at saturation. {_ABOUT}"
    )
    return "\n".join([HEADING, "", about, "", *drawn, ""])


_ABOUT = (
    "Every run has a broker and an index of its own and starts from the same windows; the"
    " latencies are those at 70 % of what the slowest system can, and Nextwatch's at 70 % of its"
    " own besides, from when an event was meant to be sent. The processor time is the workers'"
    " alone, at saturation. A degraded answer was made without the index, which is less work; a"
    " window is wrong when the changelog says another thing than the events do: the last three"
    " columns must be 0."
)


def write_section(page: Path, section: str) -> None:
    """Put *section* into *page*: in place of the one with its heading, else at the end."""
    text = page.read_text() if page.exists() else "# The serving path, measured\n"
    before, found, after = text.partition(HEADING + "\n")
    following = _NEXT_SECTION.search(after)
    rest = "\n" + after[following.start() :] if following else ""
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text((before if found else text.rstrip("\n") + "\n\n") + section + rest)


def summary(standings: Sequence[Standing], common_eps: float) -> dict[str, Any]:
    """Return everything as one JSON object."""
    systems = {standing.contestant.name: _system(standing) for standing in standings}
    return {"common_rate_eps": round(common_eps, 1), "systems": systems}


def _system(standing: Standing) -> dict[str, Any]:
    rates = [run.answers_eps for run in standing.saturated]
    found: dict[str, Any] = {
        "answers_eps": standing.answers_eps,
        "answers_eps_range": [min(rates), max(rates)],
        "latency_ms": _latency(standing.paced),
        "worker_cpu_ms_per_event": _median_cpu_ms(standing.saturated),
        "rss_mb": max(run.rss_mb for run in standing.runs),
        "unanswered": sum(run.num_unanswered for run in standing.runs),
        "degraded": sum(run.num_degraded for run in standing.runs),
        "wrong_windows": sum(run.num_wrong for run in standing.runs),
    }
    if standing.at_own_pace:
        found["own_rate_eps"] = round(standing.own_rate_eps, 1)
        found["latency_ms_at_own_rate"] = _latency(standing.at_own_pace)
    return found


def _latency(runs: Sequence[ContestRun]) -> dict[str, float]:
    names = [f"p{cut}" for cut in CUTS]
    return {name: statistics.median(run.latency_ms[name] for run in runs) for name in names}


def _cuts(runs: Sequence[ContestRun]) -> list[str]:
    return [f"{at_ms:.1f}" for at_ms in _latency(runs).values()]


def _flaws(runs: Sequence[ContestRun]) -> list[str]:
    flaws = [(run.num_unanswered, run.num_degraded, run.num_wrong) for run in runs]
    return [str(sum(counts)) for counts in zip(*flaws, strict=True)]


def _median_cpu_ms(runs: Sequence[ContestRun]) -> float:
    return statistics.median(run.worker_cpu_ms for run in runs)
