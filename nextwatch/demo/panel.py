"""Draw a run as a panel in a terminal, or as a line."""

from collections.abc import Mapping, Sequence

import msgspec
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from nextwatch.demo.figures.latency import RECENT_S
from nextwatch.demo.figures.report import Report
from nextwatch.demo.figures.tally import Sample, Tally

NUM_SHOWN = 6
NAME_WIDTH = 22
NOW_WIDTH = 30  # that of the sparkline
LATE_S = 1.0  # so long an answer may take before the wait is told
ONE_FOR_SEVERAL = "one answers all events of a user in a micro-batch"
_BARS = "▁▂▃▄▅▆▇█"


class _Item(msgspec.Struct):
    video_id: str
    expected_watch_ms: float = 0.0
    source: str = ""


class _Items(msgspec.Struct):
    items: list[_Item]


def sparkline(values: Sequence[float | None]) -> str:
    """Return one bar for each of *values*, scaled to the highest; None is blank."""
    highest = max((value for value in values if value is not None), default=0.0)
    return "".join(" " if value is None else _bar(value, highest) for value in values)


def answers(figures: Report) -> str:
    """Return the counts of events and recommendations, as text."""
    return (
        f"{figures.events_in:,} events, {figures.answered:,} answered by "
        f"{figures.recommendations_out:,} recommendations"
    )


def recalls(figures: Report) -> str:
    """Return what the trainer measured, as text."""
    recall = figures.progressive_recall_at_20
    return f"recall@20 {share(recall['model'])} (popularity {share(recall['popularity'])})"


def ranker(figures: Report) -> str:
    """Return how the ranker orders what is shown, and how much it expects to be watched."""
    measured = figures.ranker
    return (
        f"order within users (GAUC) {share(measured['gauc'])}, expected to watched time "
        f"{share(measured['predicted_to_watched'])}"
    )


def line(figures: Report, tally: Tally, *, now_ms: int) -> str:
    """Return the state of the run in one line: the last seconds, then the whole run."""
    recent = figures.last_10_s
    waiting = _waiting(tally, now_ms)
    told = [
        f"{figures.seconds:5.0f} s  last {RECENT_S} s: {tally.events_per_s(now_ms=now_ms):.1f} events/s, "
        f"{ms(recent['event_to_recommendation_ms'])}" + (f", {waiting}" if waiting else ""),
        f"whole run: {ms(figures.event_to_recommendation_ms)}, {answers(figures)}",
        f"generation {tally.generation}, {recalls(figures)}",
        f"{figures.uploads} uploads found in {ms(figures.upload_to_retrievable_ms)}",
        f"dead letters {figures.dead_letters}",
    ]
    if figures.restarts:
        told.append(f"restarted {counts(figures.restarts)}")
    return " | ".join(told)


def panel(figures: Report, tally: Tally, *, now_ms: int) -> RenderableType:
    """Return the whole panel: the figures, and below them one sampled user."""
    title = f"nextwatch · {figures.seconds:.0f} s · {figures.catalogue_videos} videos"
    drawn = Group(_latencies(figures, tally, now_ms), _state(figures, tally, now_ms))
    return Group(Panel(drawn, title=title, title_align="left"), _sample(tally.sample, tally.titles))


def ms(percentiles: Mapping[str, float | None]) -> str:
    """Return *percentiles* as text."""
    told = [
        f"{name} {value:,.0f}" if value is not None else f"{name} -"
        for name, value in percentiles.items()
    ]
    return " ".join(told) + " ms"


def share(value: float | None) -> str:
    """Return a share from 0 to 1 as text."""
    return "-" if value is None else f"{value:.3f}"


def counts(named: Mapping[str, int]) -> str:
    """Return counts by name as text."""
    return ", ".join(f"{escape(name)} {count}" for name, count in named.items()) or "0"


def _waiting(tally: Tally, now_ms: int) -> str:
    """Return how many events wait for their answer, and how long; empty where none waits long."""
    oldest_ms = tally.ledger.oldest_owed_ms()
    waited_s = (now_ms - oldest_ms) / 1000 if oldest_ms is not None else 0.0
    if waited_s < LATE_S:
        return ""
    return f"{tally.ledger.num_owed:,} unanswered for up to {waited_s:,.0f} s"


def _latencies(figures: Report, tally: Tally, now_ms: int) -> Table:
    recent = figures.last_10_s
    course = tally.ledger.latencies.course(99, now_ms=now_ms)
    highest = max((value for value in course if value is not None), default=None)
    grid = _grid()
    grid.add_column(min_width=NOW_WIDTH)
    grid.add_row("", f"[dim]last {RECENT_S} s[/]", "[dim]whole run[/]")
    rows = {
        "events": (f"{tally.events_per_s(now_ms=now_ms):.1f}/s", f"{figures.events_in:,}"),
        "event → recommendation": (
            ms(recent["event_to_recommendation_ms"]),
            ms(figures.event_to_recommendation_ms),
        ),
        "p99, last minute": (
            f"[cyan]{sparkline(course)}[/]",
            "" if highest is None else f"[dim]up to {highest:,.0f} ms[/]",
        ),
        "upload → retrievable": (
            ms(recent["upload_to_retrievable_ms"]),
            f"{ms(figures.upload_to_retrievable_ms)}  {figures.uploads:,} uploads",
        ),
    }
    for name, (now, whole) in rows.items():
        grid.add_row(f"[dim]{name}[/]", now, whole)
    return grid


def _state(figures: Report, tally: Tally, now_ms: int) -> Table:
    recall = figures.progressive_recall_at_20
    coming, waiting = tally.coming(), _waiting(tally, now_ms)
    rows = {
        "answered": f"{figures.answered:,} by {figures.recommendations_out:,} recommendations"
        f"  [dim]{ONE_FOR_SEVERAL}[/]",
        "waiting": f"[yellow]{waiting}[/]" if waiting else "",
        "generation in service": f"{tally.generation}" + (f"  [dim]{coming}[/]" if coming else ""),
        "progressive recall@20": f"model {share(recall['model'])}   "
        f"retrieval {share(recall['retrieval'])}   popularity {share(recall['popularity'])}",
        "ranker": ranker(figures) if figures.ranker_examples else "",
        "dead letters": f"{figures.dead_letters}   [dim]degraded {counts(figures.degraded)}[/]",
        "restarted": f"[yellow]{counts(figures.restarts)}[/]" if figures.restarts else "",
    }
    grid = _grid()
    for name, value in rows.items():
        if value:
            grid.add_row(f"[dim]{name}[/]", value)
    return grid


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(min_width=NAME_WIDTH, no_wrap=True)
    return grid


def _sample(sample: Sample | None, titles: Mapping[str, str]) -> RenderableType:
    if sample is None:
        return ""
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    happened = [escape(text) for text in sample.happened]
    answers = _recommended(sample.recommendation, titles)
    for row in range(max(len(happened), len(answers))):
        left = happened[row] if row < len(happened) else ""
        grid.add_row(left, answers[row] if row < len(answers) else "")
    title = f"what happened to {escape(sample.user_id)}, and what is recommended now"
    return Panel(grid, title=title, title_align="left")


def _recommended(value: bytes, titles: Mapping[str, str]) -> list[str]:
    if not value:
        return []
    items = msgspec.json.decode(value, type=_Items).items[:NUM_SHOWN]
    return [
        f"{escape(titles.get(item.video_id, item.video_id))}  "
        f"[dim]{item.expected_watch_ms / 1000:.0f} s, {escape(item.source)}[/]"
        for item in items
    ]


def _bar(value: float, highest: float) -> str:
    return _BARS[round(value / highest * (len(_BARS) - 1))] if highest else _BARS[0]
