"""The words that streams writes into recommendations are those that the contract explains."""

from pathlib import Path

import streams
from contract.wire import words
from streams.serving import candidates as retrieval
from streams.serving import recommend

MEANINGS = words.DEGRADED | words.SOURCES | words.ARMS
SOURCES = Path(streams.__file__).parent.rglob("*.py")


def test_every_word_of_streams_has_a_meaning():
    """A new one needs its line in `contract.wire.words`; so it comes into the AsyncAPI document."""
    names = vars(recommend) | vars(retrieval)
    given = {text for name, text in names.items() if name.isupper() and isinstance(text, str)}

    assert given <= MEANINGS.keys()


def test_every_word_of_the_tables_is_written_by_streams():
    """What nobody writes any more goes out of the document."""
    code = "\n".join(path.read_text() for path in SOURCES)
    constants = {name for name, text in vars(words).items() if isinstance(text, str)}

    assert {vars(words)[name] for name in constants if name in code} >= MEANINGS.keys()
