"""Where there is no terminal, a trial tells in lines how far it is."""

import io

from rich.console import Console

from nextwatch.evaluate.progress import progress


def test_each_stage_is_told_as_it_begins_and_not_with_every_batch():
    """A stage may take minutes and tell nothing in between."""
    told = io.StringIO()

    with progress("kuairand", Console(file=told)) as tell:
        for what, done in (("reading", 0.0), ("replaying", 0.0), ("replaying", 0.1)):
            tell(what, done)

    assert told.getvalue() == "kuairand: reading, 0%\nkuairand: replaying, 0%\n"
