"""Progress: plain lines where there is no terminal, and never one per event."""

import io

import pytest
from rich.console import Console

from nextwatch.sources import progress as module
from nextwatch.sources.progress import progress
from nextwatch.sources.totals import Totals
from tests.support.builders import search, upload, watch


def test_plain_lines_tell_counts_and_share(monkeypatch):
    """As a log file or a pipe gets them."""
    monkeypatch.setattr(module, "LINE_EVERY_S", 0.0)
    console = Console(file=io.StringIO(), width=200)
    totals = Totals(watches=1_200, uploads=3)
    with progress("movielens", console) as tell:
        tell(0.25, totals)
        tell(None, totals)

    first, second = console.file.getvalue().splitlines()
    assert first.startswith("movielens: 1,200 watches, 0 searches, 3 uploads")
    assert first.endswith("25%")
    assert "%" not in second


def test_lines_are_seconds_apart():
    """A replay tells of each of its events; a person reads a line now and then."""
    console = Console(file=io.StringIO(), width=200)
    with progress("replay", console) as tell:
        for _ in range(1_000):
            tell(0.5, Totals())

    assert not console.file.getvalue()


def test_a_terminal_gets_a_bar(monkeypatch):
    """With the counts beside it."""
    monkeypatch.setattr(module, "BAR_EVERY_S", 0.0)
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with progress("kuairand", console) as tell:
        tell(0.5, Totals(watches=7))

    assert "7 watches" in console.file.getvalue()


def test_totals_know_only_what_sources_send():
    """Another event is a mistake in the code."""
    totals = Totals()
    for event in (watch(), search(), upload()):
        totals.count(event)

    assert (totals.events, totals.records) == (2, 3)
    with pytest.raises(ValueError, match="sources send no str"):
        totals.count("a watch")
