"""The catalogue gives back the uploads that it was given."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.wire.decoding import decode
from contract.wire.events import MAX_DURATION_MS, MAX_TIME_MS, MIN_TIME_MS, VideoUpload
from contract.wire.topics import VIDEO_UPLOADS
from index_sync.catalogue import UploadCatalogue
from tests.support.builders import upload

texts = st.text(st.characters(codec="utf-8"), max_size=300)
documents = st.fixed_dictionaries(
    {"video_id": st.just("v1"), "uploaded_at_ms": st.integers(MIN_TIME_MS, MAX_TIME_MS)},
    optional={
        "title": st.one_of(st.none(), texts),
        "channel_id": st.one_of(st.none(), st.just("c1"), texts),
        "category": st.one_of(st.none(), texts),
        "tags": st.lists(st.one_of(st.none(), texts), max_size=40),
        "language": st.one_of(st.none(), st.just("pt-BR"), texts),
        "duration_ms": st.one_of(
            st.none(), st.integers(0, MAX_DURATION_MS), st.floats(0, MAX_DURATION_MS)
        ),
    },
)


@given(documents)
def test_every_upload_that_was_accepted_comes_back_as_it_was(document):
    """Also one that was mended: a strict decoder that rejected it would end the process."""
    accepted = decode(VIDEO_UPLOADS, VideoUpload, b"v1", msgspec.json.encode(document))
    catalogue = UploadCatalogue()

    catalogue.put(accepted)

    assert catalogue.get("v1") == accepted


def test_a_video_that_was_taken_down_is_not_in_the_catalogue_until_it_is_uploaded_again():
    catalogue = UploadCatalogue()
    catalogue.put(upload("a"))
    catalogue.put(upload("b"))

    catalogue.take_down("a")

    assert catalogue.get("a") is None
    assert catalogue.is_taken_down("a")
    assert list(catalogue) == ["b"]
    catalogue.put(upload("a"))
    assert not catalogue.is_taken_down("a")
    assert sorted(catalogue) == ["a", "b"]


@pytest.mark.parametrize("title", ["", "x" * 256, "\U0001f600" * 256, "e\u0301\u200d\x00"])
def test_the_newest_upload_of_a_video_comes_back(title):
    catalogue = UploadCatalogue()
    catalogue.put(upload("a"))
    newest = msgspec.structs.replace(upload("a", at_ms=1), title=title)

    catalogue.put(newest)

    assert catalogue.get("a") == newest
    assert len(catalogue) == 1
