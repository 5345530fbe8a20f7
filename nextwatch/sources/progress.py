"""Show the progress of a source: a bar on a terminal, occasional lines elsewhere.

Both go to stderr; stdout belongs to the totals.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nextwatch.sources.totals import Totals

BAR_EVERY_S = 0.1
LINE_EVERY_S = 5.0

Tell = Callable[[float | None, Totals], None]
"""Takes the share that is done, from 0 to 1 or None where there is no end, and the totals."""


@contextmanager
def progress(title: str, console: Console) -> Iterator[Tell]:
    """Yield a function that shows the progress of *title*; it may be called for each event."""
    if console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task(title, total=None, rate="")
            yield _seldom(
                BAR_EVERY_S,
                lambda done, totals, rate_per_s: bar.update(
                    task,
                    total=None if done is None else 1.0,
                    completed=done or 0.0,
                    rate=_words(totals, rate_per_s),
                ),
            )
    else:
        yield _seldom(
            LINE_EVERY_S,
            lambda done, totals, rate_per_s: console.print(
                f"{title}: {_words(totals, rate_per_s)}{_percent(done)}", highlight=False
            ),
        )


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _seldom(every_s: float, show: Callable[[float | None, Totals, float], None]) -> Tell:
    """Return a teller that calls *show* at most once in *every_s*, with the records per second."""
    shown_s, shown_records = monotonic(), 0

    def tell(done: float | None, totals: Totals) -> None:
        nonlocal shown_s, shown_records
        passed_s = monotonic() - shown_s
        if passed_s >= every_s:
            show(done, totals, (totals.records - shown_records) / passed_s)
            shown_s, shown_records = monotonic(), totals.records

    return tell


def _words(totals: Totals, rate_per_s: float) -> str:
    return (
        f"{totals.watches:,} watches, {totals.searches:,} searches, {totals.uploads:,} uploads,"
        f" {rate_per_s:,.0f} records/s"
    )


def _percent(done: float | None) -> str:
    return "" if done is None else f", {done:.0%}"
