"""Ids are opaque text, and the id of an event is kept in 16 bytes."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.wire.decoding import is_id
from contract.wire.identifiers import as_uuid, event_key

UPPER = "6F9619FF-8B86-D011-B42D-00C04FC964FF"


@pytest.mark.parametrize(
    "text",
    ["-dQw4w9WgXc", "auth0|abc", "o'brien", "a b", "/", "https://v.example/?a=1&b", "usér", "用户", "👨‍👩‍👧", "x" * 128],
)  # fmt: skip
def test_real_ids_are_ids(text):
    """Whatever a site, an identity provider or a message bus calls its things."""
    assert is_id(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "\u3000\u00a0", "a\n", "a\r\nb", "\x00", "\x1b[2J", "\x7f", "\x85", "u\u200b1", "\ufeffu", "\u202e", "a\u2028", "\ud800", "x" * 129, "é" * 65],
)  # fmt: skip
def test_unprintable_text_is_not_an_id(text):
    """It would hide in a log, or split a line of it."""
    assert not is_id(text)


def test_a_dashed_uuid_is_kept_as_its_own_bytes_in_either_case():
    """Windows of before stay valid, and repeats in them are recognised."""
    assert event_key(UPPER) == event_key(UPPER.lower()) == UUID(UPPER).bytes


def test_a_uuid_without_dashes_is_the_same_event():
    """Libraries write UUIDs both ways."""
    assert event_key(UPPER.replace("-", "")) == event_key(UPPER)


@given(st.text(), st.text())
def test_other_texts_are_hashed_and_do_not_meet(one, other):
    """Case counts in them: they are opaque."""
    assert len(event_key(one)) == 16
    assert (event_key(one) == event_key(other)) == (one == other)


@pytest.mark.parametrize(
    "text", ["6f9619ff 8b86 d011 b42d 00c04fc964ff", "\uff16f9619ff-8b86-d011-b42d-00c04fc964ff"]
)
def test_text_that_only_resembles_a_uuid_is_hashed(text):
    """Blanks and digits of other scripts are read by many a parser."""
    assert event_key(text) != UUID(UPPER).bytes


@given(st.uuids())
def test_sixteen_bytes_are_written_as_a_uuid(uuid):
    """As the library writes it, and four times as fast."""
    assert as_uuid(uuid.bytes) == str(uuid)


def test_a_key_never_changes():
    """It is in windows and changelogs for ever."""
    assert event_key("01JDGXV3T4Q8Z6W5N2M7K9P0RS").hex() == "74eafe8b8be145fdcbc112eb1cf9294a"
