"""Log lines as a person reads them, above the panel and never through it."""

import io

import pytest
import structlog
from rich.console import Console
from rich.table import Table

from nextwatch.demo.display import display
from nextwatch.notices import log_to, sentence

ENDED = {
    "event": "process_ended",
    "process": "index_sync",
    "how": "signal 9",
    "restart_in_s": 0.25,
    "log_path": "/runs/1/logs/index_sync.log",
}
TOLD = "index_sync ended (signal 9), restarted after 0.25 s; log: /runs/1/logs/index_sync.log"


@pytest.fixture(autouse=True)
def _own_logging():
    """Leave structlog as it was."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_a_process_that_ended_is_named_with_its_log():
    """Who died, how, and where its last words are."""
    assert sentence(ENDED) == TOLD


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            {"event": "port_lost", "process": "broker", "port": 9092},
            "port 9092 was taken meanwhile: the broker moves to another one",
        ),
        (
            {"event": "disk_full", "reason": "No space left on device: 7 MB free", "level": "x"},
            "No space left on device: 7 MB free: make room there",
        ),
    ],
)
def test_the_log_of_the_stack_is_printed_as_sentences(entry, told):
    assert sentence(entry) == told


def test_other_entries_are_printed_as_name_and_fields():
    """Nothing is left out for want of a sentence."""
    assert sentence({"event": "disk_full", "level": "error", "path": "/x"}) == "disk_full path=/x"


def test_log_lines_go_to_the_given_function():
    """From warnings on: a line each."""
    said = []
    log_to(said.append)
    log = structlog.get_logger("test")
    log.warning(**ENDED)
    log.info("not_shown")

    assert said == [TOLD]


def test_log_lines_stand_above_the_panel():
    """The panel is drawn once more below the line, and as it was: with its markup, in its width."""
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    panel = Table.grid(expand=True)
    panel.add_row("[dim]the panel[/]", "that is wider than its terminal, so it is folded")
    with display(console, is_headless=False) as screen:
        log_to(screen.note)
        screen.show(lambda: panel)
        before = len(console.file.getvalue())
        structlog.get_logger("test").warning(**ENDED)

    drawn = console.file.getvalue()[before:]
    assert "[dim]" not in drawn
    erased, line, again = drawn.index("\x1b[2K"), drawn.index(TOLD), drawn.index("the panel")
    assert erased < line < again
