"""The words that streams writes into recommendations are those that the contract explains."""

from contract.words import ARMS, DEGRADED, SOURCES
from streams import recommend, retrieval


def constants_of_streams():
    """Return the texts that are constants of the modules that make recommendations."""
    names = vars(recommend) | vars(retrieval)
    return {text for name, text in names.items() if name.isupper() and isinstance(text, str)}


def test_every_word_of_streams_has_a_meaning_and_every_meaning_a_word():
    """A new word needs its line in `contract.words`; so it comes into the AsyncAPI document."""
    assert constants_of_streams() == DEGRADED.keys() | SOURCES.keys() | ARMS.keys()
