"""Show the progress of a batch job: a bar on a terminal, occasional lines elsewhere.

Both go to stderr; stdout belongs to the summary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_EVERY_S = 5.0

Tell = Callable[[int, int], None]
"""Takes how many are done, and of how many; 0 where that is not known."""


def ignore_progress(done: int, total: int) -> None:
    """Show nothing."""


@contextmanager
def progress(title: str, console: Console) -> Iterator[Tell]:
    """Yield a function that shows the progress of *title*."""
    if not console.is_terminal:
        yield _lines(title, console)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def _lines(title: str, console: Console) -> Tell:
    shown_s = monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal shown_s
        if monotonic() - shown_s >= LINE_EVERY_S:
            shown_s = monotonic()
            of = f" of {total:,}" if total else ""
            console.print(f"{title}: {done:,}{of}", highlight=False)

    return tell
