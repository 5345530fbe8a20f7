"""The vocabulary: rows are for ever, and only uploads make videos known."""

import numpy as np

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
