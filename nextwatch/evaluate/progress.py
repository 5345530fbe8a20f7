"""Show the progress of a trial: a bar on a terminal, elsewhere a line now and then.

Both go to stderr; stdout belongs to the results.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nextwatch.evaluate.prequential import Tell

LINE_EVERY_S = 15.0


@contextmanager
def progress(title: str, console: Console) -> Iterator[Tell]:
    """Yield a function that shows the progress of *title*; it may be called for each batch."""
    if not console.is_terminal:
        yield _lines(title, console)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda what, done: bar.update(task, description=f"{title}: {what}", completed=done)


def _lines(title: str, console: Console) -> Tell:
    shown_s, shown = monotonic(), ""

    def tell(what: str, done: float) -> None:
        nonlocal shown_s, shown
        if what != shown or monotonic() - shown_s >= LINE_EVERY_S:
            shown_s, shown = monotonic(), what
            console.print(f"{title}: {what}, {done:.0%}", highlight=False)

    return tell
