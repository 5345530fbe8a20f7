"""Two rows of ``python -m benchmarks.replay_reports``: what the others stand on works."""

import pytest

from benchmarks.replay_reports import replay_section
from benchmarks.reports.table import SECTIONS

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


WANTED = {"1.2", "5.1"}


def test_rows_that_need_no_model_are_right():
    """An aborted transaction, and identifiers of other worlds."""
    rows = [row for section in ("1", "5") for row in SECTIONS[section] if row.number in WANTED]

    seen = replay_section("1", rows)

    assert {number: each.text for number, each in seen.items() if not each.is_right} == {}
    assert len(seen) == len(WANTED)
