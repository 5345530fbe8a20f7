"""One row of the table: a report, and the function that replays it."""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.reports.stage import Seen, Stage


class Row(NamedTuple):
    """The *number* of the report, its *title*, and what *replays* it and says what was seen."""

    number: str
    title: str
    replay: Callable[[Stage], Seen]
