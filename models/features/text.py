"""Split the text of titles, tags and searches into words and n-grams.

Text is brought to one form first (Unicode NFKC, then case folding). Where words are separated
by spaces, a word also gives its character trigrams, with marks at both ends, so that `guitars`
shares most of what `guitar` has. Chinese, Japanese and South-East Asian scripts have no spaces:
a run of them gives its overlapping bigrams or trigrams, each counted as a word.

Source:
    Bojanowski et al., Enriching Word Vectors with Subword Information, TACL 2017,
    https://arxiv.org/abs/1607.04606 (trigrams with marks at the ends of a word)
"""

import re
import unicodedata
from functools import lru_cache

MAX_CHARACTERS = 512
"""Of one text; what lies behind is not read."""

NGRAM = 3
_ASCII_WORD = re.compile(r"[a-z0-9_]+")
_BIGRAM_SCRIPTS = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_TRIGRAM_SCRIPTS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
_RUNS = re.compile(
    f"([{_BIGRAM_SCRIPTS}]+)|([{_TRIGRAM_SCRIPTS}]+)|([^{_BIGRAM_SCRIPTS}{_TRIGRAM_SCRIPTS}]+)"
)


def normalised(text: str) -> str:
    """Return *text* in the one form in which texts are compared."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", text).casefold()


def words(text: str) -> list[str]:
    """Return the words of *text* in their order, of scripts without spaces the n-grams."""
    text = normalised(text[:MAX_CHARACTERS])
    if text.isascii():
        return _ASCII_WORD.findall(text)
    spaced = "".join(character if _is_in_a_word(character) else " " for character in text)
    return [word for part in spaced.split() for word in _cut(part)]


def ngrams(word: str) -> list[str]:
    """Return the distinct trigrams of *word*, marks included; none of one that is an n-gram."""
    if len(word) < NGRAM or _RUNS.match(word).lastindex != _SPACED:  # type: ignore[union-attr]
        return []
    marked = f"<{word}>"
    return list(dict.fromkeys(marked[at : at + NGRAM] for at in range(len(marked) - NGRAM + 1)))


_SPACED = 3


def _cut(part: str) -> list[str]:
    found: list[str] = []
    for run in _RUNS.finditer(part):
        size = (2, NGRAM, 0)[(run.lastindex or _SPACED) - 1]
        text = run[0]
        if not size:
            found.append(text)
        else:
            found += [text[at : at + size] for at in range(max(len(text) - size + 1, 1))]
    return found


@lru_cache(maxsize=4_096)
def _is_in_a_word(character: str) -> bool:
    """Return whether it is a letter, a digit, an underscore or a mark on one of them."""
    kind = unicodedata.category(character)
    return kind[0] in "LMN" or character == "_"
