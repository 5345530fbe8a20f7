"""What a person sees of a run: a panel in a terminal, a line where there is none."""

from collections.abc import Mapping, Sequence

import msgspec
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from nextwatch.demo.report import Report
from nextwatch.demo.tally import Sample, Tally

NUM_SHOWN = 6
_BARS = " ▁▂▃▄▅▆▇█"


class _Item(msgspec.Struct):
    video_id: str
    expected_watch_ms: float = 0.0
    source: str = ""


class _Items(msgspec.Struct):
    items: list[_Item]


MANY_EVENTS = 10_000
"""From here on the embedded broker's own slowing shows (``python -m benchmarks.broker_hop``)."""


def sparkline(values: Sequence[float]) -> str:
    """Return one bar for each of *values*, the highest as high as a line."""
    highest = max(values, default=0)
    if highest <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[round(value / highest * (len(_BARS) - 1))] for value in values)


def line(figures: Report, tally: Tally) -> str:
    """Return the state of the run in one line."""
    recall = figures.progressive_recall_at_20
    return (
        f"{figures.seconds:5.0f} s  {tally.events_per_s():5.1f} events/s  "
        f"answered in {_ms(figures.event_to_recommendation_ms)}  generation {tally.generation}  "
        f"recall@20 {_share(recall['model'])} (popularity {_share(recall['popularity'])})  "
        f"{figures.uploads} uploads found in {_ms(figures.upload_to_retrievable_ms)}  "
        f"dead letters {figures.dead_letters}"
    )


def panel(figures: Report, tally: Tally, *, num_restarts: int = 0) -> RenderableType:
    """Return the whole panel: the figures, and below them one user who is followed."""
    recall = figures.progressive_recall_at_20
    seconds = sorted(tally.events_by_second)[:-1]
    rows = {
        "events": f"{tally.events_per_s():.1f}/s  {figures.events_in} in all  "
        f"[cyan]{sparkline([tally.events_by_second[second] for second in seconds])}[/]",
        "event → recommendation": _ms(figures.event_to_recommendation_ms),
        "generation in service": f"{tally.generation}"
        + (f"  [dim]{_coming(tally)}[/]" if _coming(tally) else ""),
        "progressive recall@20": f"model {_share(recall['model'])}   "
        f"retrieval {_share(recall['retrieval'])}   popularity {_share(recall['popularity'])}",
        "upload → retrievable": f"{_ms(figures.upload_to_retrievable_ms)}  "
        f"{figures.uploads} uploads",
        "dead letters": f"{figures.dead_letters}   [dim]degraded {_counts(figures.degraded)}, "
        f"restarted {num_restarts}[/]",
    }
    if figures.events_in > MANY_EVENTS:
        rows["note"] = (
            "[yellow]the embedded broker keeps every record and slows down as it fills: "
            "start anew, or run on Kafka (README)[/]"
        )
    grid = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        grid.add_row(f"[dim]{name}[/]", value)
    title = f"nextwatch · {figures.seconds:.0f} s · {figures.catalogue_videos} videos"
    return Group(Panel(grid, title=title, title_align="left"), _sample(tally.sample, tally.titles))


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


def _coming(tally: Tally) -> str:
    newer = [number for number in tally.bundle_states if number > tally.generation]
    return f"{max(newer)} is {tally.bundle_states[max(newer)]}" if newer else ""


def _ms(percentiles: Mapping[str, float | None]) -> str:
    told = [
        f"{name} {value:.0f}" if value is not None else f"{name} -"
        for name, value in percentiles.items()
    ]
    return " ".join(told) + " ms"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{escape(name)} {count}" for name, count in counts.items()) or "0"
