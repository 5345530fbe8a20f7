"""The vocabulary: rows are for ever, and only uploads make videos known."""

import numpy as np

from models.catalogue import Catalogue
from models.examples import CompletionRule
from models.features import FeatureEncoder
from tests.builders import upload

FEATURES = FeatureEncoder(content_buckets=512, context_buckets=8, completion=CompletionRule())


def catalogue_of(*uploads):
    catalogue = Catalogue(FEATURES)
    for one in uploads:
        catalogue.put(one)
    return catalogue


def assert_same_content(one, other):
    for name in type(one).__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_rows_follow_the_first_upload_and_stay():
    """A video that is uploaded again keeps its place, with its new content."""
    catalogue = catalogue_of(upload("a"), upload("b"), upload("a", category="chess"))

    assert catalogue.rows(["a", "b", "c"]).tolist() == [1, 2, 0]
    assert_same_content(
        catalogue.content(), FEATURES.uploads([upload("a", category="chess"), upload("b")])
    )


def test_a_video_taken_down_is_masked_and_comes_back_in_its_place():
    """Tables and scores keep their columns."""
    catalogue = catalogue_of(upload("a"), upload("b"))

    assert catalogue.remove("a")
    assert not catalogue.remove("a")
    assert catalogue.rows(["a", "b"]).tolist() == [0, 2]
    assert catalogue.is_live_N.tolist() == [False, True]
    catalogue.put(upload("a"))
    assert catalogue.rows(["a"]).tolist() == [1]


def test_content_of_some_rows_is_content_of_these_videos():
    """In the order asked for, repeats included."""
    uploads = [upload(f"v{n}", tags=tuple(f"t{i}" for i in range(n))) for n in range(6)]

    some = catalogue_of(*uploads).content(np.array([5, 1, 5, 3]))

    assert_same_content(some, FEATURES.uploads([uploads[n] for n in (4, 0, 4, 2)]))


def test_it_grows_past_its_first_capacity():
    """Two thousand videos, all of them live."""
    catalogue = catalogue_of(*(upload(f"v{n}") for n in range(2_000)))

    assert len(catalogue) == 2_000
    assert catalogue.is_live_N.all()


def test_a_catalogue_comes_back_from_its_bytes():
    """Rows, content, and what was taken down."""
    catalogue = catalogue_of(*(upload(f"v{n}", category=f"c{n}") for n in range(5)))
    catalogue.remove("v3")

    again = Catalogue.decoded(FEATURES, catalogue.encoded())

    assert again.video_ids == catalogue.video_ids
    assert again.is_live_N.tolist() == catalogue.is_live_N.tolist()
    assert_same_content(again.content(), catalogue.content())
