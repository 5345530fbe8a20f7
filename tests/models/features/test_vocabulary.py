"""The vocabulary: rows are for ever, and only uploads make videos known."""

import msgspec
import numpy as np
import pytest

from models.features.examples import CompletionRule
from models.features.features import FeatureEncoder
from models.features.vocabulary import Vocabulary
from tests.support.builders import upload

FEATURES = FeatureEncoder(content_buckets=512, context_buckets=8, completion=CompletionRule())


def vocabulary_of(*uploads):
    vocabulary = Vocabulary(FEATURES)
    for one in uploads:
        vocabulary.put(one)
    return vocabulary


def assert_same_content(one, other):
    for name in type(one).__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_rows_follow_the_first_upload_and_stay():
    """A video that is uploaded again keeps its place, with its new content."""
    vocabulary = vocabulary_of(upload("a"), upload("b"), upload("a", category="chess"))

    assert vocabulary.live_rows(["a", "b", "c"]).tolist() == [1, 2, 0]
    assert_same_content(
        vocabulary.content(), FEATURES.uploads([upload("a", category="chess"), upload("b")])
    )


def test_a_video_taken_down_is_masked_and_comes_back_in_its_place():
    """Tables and scores keep their columns."""
    vocabulary = vocabulary_of(upload("a"), upload("b"))

    assert vocabulary.remove("a")
    assert not vocabulary.remove("a")
    assert vocabulary.live_rows(["a", "b"]).tolist() == [0, 2]
    assert vocabulary.is_live_N.tolist() == [False, True]
    vocabulary.put(upload("a"))
    assert vocabulary.live_rows(["a"]).tolist() == [1]


def test_content_of_some_rows_is_content_of_these_videos():
    """In the order asked for, repeats included."""
    uploads = [upload(f"v{n}", tags=tuple(f"t{i}" for i in range(n))) for n in range(6)]

    some = vocabulary_of(*uploads).content(np.array([5, 1, 5, 3]))

    assert_same_content(some, FEATURES.uploads([uploads[n] for n in (4, 0, 4, 2)]))


def test_it_grows_past_its_first_capacity():
    """Two thousand videos, all of them live."""
    vocabulary = vocabulary_of(*(upload(f"v{n}") for n in range(2_000)))

    assert len(vocabulary) == 2_000
    assert vocabulary.is_live_N.all()


def test_a_video_taken_down_keeps_its_row():
    """Counters go on by it; only what may be recommended asks for live rows."""
    vocabulary = vocabulary_of(upload("a"), upload("b"))
    vocabulary.remove("a")

    assert (vocabulary.row("a"), vocabulary.live_row("a")) == (1, 0)
    assert vocabulary.rows(["a", "b", "c"]).tolist() == [1, 2, 0]


def test_a_category_is_that_of_the_newest_upload():
    """A tree that is ordered by category follows what is known today."""
    vocabulary = vocabulary_of(
        upload("a", category="chess"), upload("b", category=None), upload("a", category="trains")
    )

    assert vocabulary.categories(np.array([2, 1])) == ["", "trains"]


def test_a_vocabulary_is_restored_from_its_bytes():
    """Rows, content, and what was taken down."""
    vocabulary = vocabulary_of(*(upload(f"v{n}", category=f"c{n}") for n in range(5)))
    vocabulary.remove("v3")

    again = vocabulary_of(upload("another"))
    again.load(vocabulary.encoded())

    assert again.video_ids == vocabulary.video_ids
    assert again.is_live_N.tolist() == vocabulary.is_live_N.tolist()
    assert_same_content(again.content(), vocabulary.content())


def small(most, *uploads):
    """Return a vocabulary of at most *most* videos, and the list of the rows that it frees."""
    vocabulary, freed = Vocabulary(FEATURES, max_videos=most), []
    vocabulary.when_freed(lambda rows: freed.extend(rows.tolist()))
    for one in uploads:
        vocabulary.put(one)
    return vocabulary, freed


def test_beyond_the_ceiling_a_newcomer_takes_the_row_of_the_longest_idle():
    """Watching or uploading again keeps a row; whoever counts by row hears of it."""
    vocabulary, freed = small(3, *(upload(f"v{n}") for n in range(3)))
    vocabulary.note_active(vocabulary.rows(["v0"]))
    vocabulary.put(upload("v1"))

    assert vocabulary.put(upload("new", category="chess")) == 3
    assert freed == [3]
    assert vocabulary.video_ids == ["v0", "v1", "new"]
    assert vocabulary.row("v2") == 0
    assert_same_content(
        vocabulary.content(np.array([3])), FEATURES.uploads([upload("new", category="chess")])
    )


def test_a_video_taken_down_gives_its_row_before_any_live_one():
    """However long the others were idle."""
    vocabulary, freed = small(3, *(upload(f"v{n}") for n in range(3)))
    vocabulary.remove("v2")

    vocabulary.put(upload("new"))

    assert freed == [3]
    assert vocabulary.is_live_N.tolist() == [True, True, True]


def test_rows_of_videos_taken_down_long_ago_are_given_again_below_the_ceiling(monkeypatch):
    """The newest ones keep theirs: who comes back has learned embeddings."""
    monkeypatch.setattr("models.features.vocabulary.KEPT_TAKEN_DOWN", 1)
    vocabulary, freed = small(100, *(upload(f"v{n}") for n in range(4)))
    vocabulary.remove("v1")
    vocabulary.remove("v3")

    assert vocabulary.put(upload("new")) == 2
    assert freed == [2]
    assert vocabulary.put(upload("v3")) == 4


def test_a_hundred_times_as_many_videos_as_rows_pass_through():
    """The newest are there, each with its own content, and rows and content stay bounded."""
    vocabulary, freed = small(64)
    newest = [upload(f"v{n}", tags=(f"tag{n}",)) for n in range(6_400)]
    for one in newest:
        vocabulary.put(one)

    assert len(vocabulary) == 64
    assert len(freed) == 6_400 - 64
    rows = vocabulary.rows([one.video_id for one in newest[-64:]])
    assert sorted(rows.tolist()) == list(range(1, 65))
    assert_same_content(vocabulary.content(rows), FEATURES.uploads(newest[-64:]))
    assert len(vocabulary._content._rows_M) <= 4_096


def test_a_vocabulary_with_free_rows_is_restored_with_what_comes_next():
    """Rows, idleness, and which row a newcomer gets."""
    vocabulary, _ = small(130, *(upload(f"v{n}") for n in range(131)))
    vocabulary.remove("v7")
    vocabulary.note_active(vocabulary.rows(["v2"]))
    restored = Vocabulary(FEATURES, max_videos=130)

    restored.load(vocabulary.encoded())

    assert "" in restored.video_ids
    for one in (vocabulary, restored):
        for n in range(200, 206):
            one.put(upload(f"v{n}"))
    assert restored.video_ids == vocabulary.video_ids
    assert restored.encoded() == vocabulary.encoded()
    assert_same_content(restored.content(), vocabulary.content())


def test_a_vocabulary_of_0_2_is_read():
    """It knew the uploads and which of them are live."""
    vocabulary = Vocabulary(FEATURES)

    vocabulary.load(msgspec.msgpack.encode(([upload("a"), upload("b")], [True, False])))

    assert vocabulary.rows(["a", "b"]).tolist() == [1, 2]
    assert vocabulary.is_live_N.tolist() == [True, False]
    assert vocabulary.remove("a")
    vocabulary.put(upload("b"))
    assert vocabulary.live_row("b") == 2


def test_a_vocabulary_without_room_is_refused():
    """Zero rows are no ceiling."""
    with pytest.raises(ValueError, match="max_videos must be at least 1"):
        Vocabulary(FEATURES, max_videos=0)


def test_content_that_is_replaced_a_thousand_times_is_the_newest():
    """What is replaced is dropped in time, and nobody else's content moves."""
    vocabulary = vocabulary_of(*(upload(f"v{n}", category=f"c{n}") for n in range(30)))
    for change in range(100):
        for n in range(0, 30, 3):
            vocabulary.put(upload(f"v{n}", category=f"c{n}", tags=[f"t{change}", "x"]))

    assert_same_content(vocabulary.content(), FEATURES.uploads(list(vocabulary.uploads)))
    assert len(vocabulary._content._rows_M) <= 4_096


def test_content_of_some_rows_is_in_their_order():
    vocabulary = vocabulary_of(*(upload(f"v{n}", category=f"c{n}") for n in range(5)))
    third, first = vocabulary.uploads[2], vocabulary.uploads[0]

    assert_same_content(vocabulary.content(np.array([3, 1])), FEATURES.uploads([third, first]))
