"""What operators read: exit codes, the figures of the demo, headers of dead letters, defaults."""

import re
from pathlib import Path

import pytest

from contract.errors import DecodeError
from contract.kafka.records import Received
from contract.process.exit_codes import ExitCode
from contract.wire.dead_letters import dead_letter
from contract.wire.topics import WATCH_EVENTS, Layout
from nextwatch import settings_reference
from nextwatch.demo.figures.report import Report

DOCS = Path(__file__).parents[2] / "docs"
OPERATIONS = (DOCS / "operations.md").read_text()
USAGE = 2
"""What typer and argparse end with when arguments are wrong."""


def test_every_exit_code_has_a_row():
    """A supervisor's rules are written from this table."""
    section = OPERATIONS.partition("## Exit codes")[2].partition("\n## ")[0]
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)]

    assert codes == sorted({*map(int, ExitCode), USAGE})


def test_every_key_of_the_demos_json_is_described():
    """Who reads the last line of `nextwatch demo --json` finds each key on the page."""
    section = (DOCS / "demo.md").read_text().partition("## The JSON object")[2]
    rows = re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)

    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(
        Report.__struct_fields__
    )


def test_the_headers_of_a_dead_letter_are_those_that_one_has():
    """Those that only some letters have are in the AsyncAPI document."""
    section = OPERATIONS.partition("## Dead letters")[2].partition("\n\n**1.")[0]
    record = Received("watch-events", 0, 7, b"u1", b"{", ingested_at_ms=1)
    error = DecodeError("json", "not a JSON document")
    letter = dead_letter(
        record, error, layout=Layout(), topic=WATCH_EVENTS, app="nextwatch-streams", now_ms=2
    )

    assert set(re.findall(r"`(dlq\.\w+)`", section)) == {
        "dlq.cut",
        *(name for name, _ in letter.headers),
    }


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_a_default_in_brackets_is_the_default(page):
    """`NEXTWATCH_STREAMS_SEARCH_SHARE` (0.8): a default that changes has to change here."""
    defaults = {
        group.model_config.get("env_prefix", "") + field.upper(): info.default
        for group in settings_reference.GROUPS
        for field, info in group.model_fields.items()
    }
    told = re.findall(r"`(NEXTWATCH_\w+)`\s\(([\d.,]+)\)", page.read_text())

    assert [
        (name, value) for name, value in told if float(value.replace(",", "")) != defaults[name]
    ] == []
