"""The glossary is sorted, and defines the words that recommendations carry."""

import re
from pathlib import Path

from contract.wire import words

ROOT = Path(__file__).parents[2]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()


def test_entries_are_sorted_and_unique():
    """A reader finds a word by its place."""
    entries = [entry.lower() for entry in re.findall(r"^- \*\*(.+?)\*\*", GLOSSARY, re.MULTILINE)]

    assert entries
    assert entries == sorted(set(entries))


def test_every_word_of_a_recommendation_is_defined():
    """A consumer who meets `index_away` or `last_good` can look it up."""
    missing = [
        word for word in (*words.DEGRADED, *words.SOURCES, *words.ARMS) if word not in GLOSSARY
    ]

    assert missing == []


def test_readme_and_contributing_link_to_it():
    """A newcomer reads one of the two first."""
    for page in ("README.md", "CONTRIBUTING.md"):
        assert "(docs/glossary.md)" in (ROOT / page).read_text()
