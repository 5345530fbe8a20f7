"""Draw the demo: a live picture in a terminal, lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

PICTURE_EVERY_S = 0.5
LINE_EVERY_S = 5.0


class Display:
    """Shows either pictures or lines, at a rate that can be read."""

    def __init__(self, console: Console, live: Live | None) -> None:
        self._console = console
        self._live = live
        self._next_s = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time to draw again."""
        return monotonic() >= self._next_s

    def say(self, text: str) -> None:
        """Print *text*, unless a picture shows it anyway."""
        if self._live is None:
            self.note(text)

    def note(self, text: str) -> None:
        """Print *text*, above the picture where there is one; from any thread.

        A live picture is drawn once more by the same call, with the options that it is given. So
        what holds for the text alone, no markup and no line breaks, is said in the text.
        """
        line = Text(text, no_wrap=True, overflow="ignore")
        self._console.print(Group(line), crop=False)  # alone it would lose its options

    def keep(self, picture: RenderableType) -> None:
        """Keep *picture* above what is drawn from now on; lines need no copy."""
        if self._live is not None:
            self._live.update("")
            self._console.print(picture)

    def show(
        self,
        picture: Callable[[], RenderableType],
        text: Callable[[], str] | None = None,
        *,
        is_last: bool = False,
    ) -> None:
        """Draw *picture*, or print *text*, if it is time to or *is_last*."""
        if not is_last and not self.is_due:
            return
        self._next_s = monotonic() + (PICTURE_EVERY_S if self._live else LINE_EVERY_S)
        if self._live is not None:
            self._live.update(picture(), refresh=True)
        elif text is not None:
            self.note(text())


@contextmanager
def display(console: Console, *, is_headless: bool) -> Iterator[Display]:
    """Yield a display that suits *console*, and restore the terminal afterwards."""
    if is_headless or not console.is_terminal:
        yield Display(console, None)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield Display(console, live)
