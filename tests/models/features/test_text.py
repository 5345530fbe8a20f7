"""One form for every text, and parts of it that match what people type."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.features.text import ngrams, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "STRASSE"),
        ("ﬁlm", "film"),
        ("\uff21\uff22\uff23", "abc"),
        ("e\u0301te", "\u00e9te"),
    ],
)
def test_texts_that_look_alike_are_alike(one, other):
    """Case, ligatures, full width and composed accents are no difference."""
    assert words(one) == words(other)


def test_words_keep_their_order_and_lose_what_is_between_them():
    """Punctuation and symbols separate."""
    assert words("Receta de PAELLA: 20 min!") == ["receta", "de", "paella", "20", "min"]


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("机器学习", "机器学习入门教程"),
        ("料理", "日本の家庭料理"),
        ("ภาษาไทย", "เรียนภาษาไทยเบื้องต้น"),
    ],
)
def test_a_query_in_a_script_without_spaces_is_part_of_the_title(query, title):
    """A run of such a script is cut into parts, each of which matches alone."""
    assert set(words(query)) <= set(words(title))


def test_marks_belong_to_their_letters():
    """Thai and Devanagari vowels are marks, and no ends of words."""
    assert words("हिन्दी सीखें") == ["हिन्दी", "सीखें"]


def test_forms_of_a_word_share_most_ngrams():
    """A plural is near its singular."""
    shared = set(ngrams("guitars")) & set(ngrams("guitar"))

    assert shared == {"<gu", "gui", "uit", "ita", "tar"}
    assert ngrams("de") == []


@given(st.text())
def test_whatever_is_typed_can_be_cut(text):
    """Cutting never fails, and no part of it is empty."""
    found = words(text)

    assert all(found)
