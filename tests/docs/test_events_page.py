"""The page of events says what the contract says."""

from pathlib import Path

from nextwatch import event_reference

PAGE = Path(__file__).parents[2] / "docs" / "events.md"


def test_the_page_is_current():
    """If this fails: `make docs`. tests/e2e/test_event_reference.py runs its programs."""
    assert PAGE.read_text() == event_reference.render()
