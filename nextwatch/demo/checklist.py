"""List the steps before the first recommendation, with the time of each."""

from collections.abc import Callable
from dataclasses import dataclass, field

from rich.table import Table

STEPS = {
    "broker": "broker",
    "topics": "topics",
    "index": "vector index",
    "catalogue": "catalogue",
    "index_sync": "index_sync",
    "streams": "streams",
    "trainer": "trainer, first bundle offered",
    "bundle": "first bundle in service",
    "recommendation": "first recommendation",
    "console": "console",
}


@dataclass(slots=True)
class Checklist:
    """The steps of the start; *age_s* returns the seconds since the command was started.

    Those *left_out* are not part of this run.
    """

    age_s: Callable[[], float]
    on_done: Callable[[str], None] = lambda _line: None
    notes: dict[str, str] = field(default_factory=dict)
    done_s: dict[str, float] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()

    def done(self, step: str) -> None:
        """Mark *step* as done; a second time changes nothing."""
        if step not in self.done_s:
            self.done_s[step] = self.age_s()
            self.on_done(f"{self.done_s[step]:6.2f} s  {self._text(step)}")

    def table(self) -> Table:
        """Return the present list, for a terminal."""
        drawn = Table(box=None, show_header=False, pad_edge=False)
        for step in STEPS:
            if step in self.left_out:
                continue
            at_s = self.done_s.get(step)
            mark = "[green]✓[/]" if at_s is not None else "[dim]·[/]"
            when = f"{at_s:5.2f} s" if at_s is not None else ""
            style = None if at_s is not None else "dim"
            drawn.add_row(mark, self._text(step), when, style=style)
        return drawn

    def _text(self, step: str) -> str:
        note = self.notes.get(step, "")
        return STEPS[step] + (f" ({note})" if note else "")
