"""One row of the table: a report that was made once, and how it is replayed."""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.reports.stage import Seen, Stage


class Row(NamedTuple):
    """The *number* of the report, its *title*, and what *replays* it and says what was seen."""

    number: str
    title: str
    replay: Callable[[Stage], Seen]
