"""Which videos bear the words of a query, in any script, and in what order."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.serving import text_index
from streams.serving.text_index import TextIndex
from tests.support.builders import upload


def index_of(**titles):
    index = TextIndex()
    for video_id, title in titles.items():
        index.put(titled(video_id, title))
    return index


def titled(video_id, title, **fields):
    made = upload(video_id, category=fields.pop("category", ""), tags=fields.pop("tags", ()))
    return msgspec.structs.replace(made, title=title, **fields)


def found(index, query, most=10):
    return [video_id for video_id, _ in index.find(query, most)]


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("机器学习", "机器学习入门教程"),
        ("receta de paella", "Paella valenciana"),
        ("guitars", "My guitar"),
        ("GUITARE", "guitares"),
        ("гитары", "Урок гитара"),
        ("ภาษาไทย", "เรียนภาษาไทยเบื้องต้น"),
        ("料理", "日本の家庭料理"),
        ("guitr", "guitar"),
    ],
)
def test_a_query_finds_the_title_that_bears_a_form_of_it(query, title):
    """Plurals, cases, spelling mistakes and scripts without spaces."""
    assert found(index_of(it=title, other="Cooking soup at home"), query) == ["it"]


def test_category_and_tags_are_found_like_titles():
    """A machine's tag is not text: what has digits in it is no word."""
    index = TextIndex()
    index.put(titled("a", "Lesson 1", category="Guitar"))
    index.put(titled("b", "Lesson 2", tags=["genre:Film-Noir", "id:guitar7"]))

    assert found(index, "guitar") == ["a"]
    assert found(index, "noir") == ["b"]


def test_a_video_with_all_words_comes_before_one_with_one_word():
    """And the rare word decides between those who bear one."""
    soups = {f"soup{n}": "receta de sopa" for n in range(8)}
    index = index_of(**soups, one="paella valenciana", both="receta de paella")

    assert found(index, "receta de paella")[:2] == ["both", "one"]


def test_nothing_is_found_for_unknown_words():
    """No guess is made; also not in an empty index."""
    assert found(index_of(a="cooking"), "zzz") == []
    assert found(TextIndex(), "cooking") == []
    assert found(index_of(a="cooking"), "!?") == []


def test_a_new_title_replaces_the_old_one_and_a_tombstone_both():
    """Only what is up right now is found."""
    index = index_of(a="guitar chords")
    index.put(titled("a", "sailing knots"))

    assert (found(index, "guitar"), found(index, "sailing")) == ([], ["a"])

    index.remove("a")
    assert found(index, "sailing") == []
    assert len(index) == 0


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["soup", "chess", "sails", None])))
)
def test_packing_changes_no_answer(history):
    """Whatever came and went, the index finds what a fresh one with the last texts finds."""
    index, last = TextIndex(), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_index, "_MIN_DEAD", 1)
        for video_id, title in history:
            if title is None:
                index.remove(video_id)
                last.pop(video_id, None)
            else:
                index.put(titled(video_id, title))
                last[video_id] = title

    for query in ("soup", "chess", "sail"):
        assert sorted(found(index, query)) == sorted(found(index_of(**last), query))


def test_what_was_taken_down_hides_nothing_that_is_up():
    """A better match that is gone is no measure for those that are left."""
    index = index_of(
        **{f"c{n}": f"cooking pasta {n}" for n in range(30)},
        **{f"g{n}": f"guitar tuning {n}" for n in range(3)},
        gone="rare guitar zither lesson",
    )
    index.remove("gone")

    assert sorted(found(index, "rare guitar zither")) == ["g0", "g1", "g2"]
    assert index.find("rare guitar zither", 1)[0][1] == 1.0
