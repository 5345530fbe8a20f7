"""Prose ends at column 100; tables, code and generated pages may be wider."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
MOST = 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_ends_at_column_100(page):
    """A change of one sentence is then a change of one or two lines."""
    text = re.sub(r"^\s*```.*?^\s*```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    prose = [
        line for line in text.splitlines() if not line.startswith(("|", "    ")) and " " in line
    ]

    assert [line for line in prose if len(line) > MOST] == []
