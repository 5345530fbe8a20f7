"""Who was here lately, by the records of events."""

import pytest

from contract.kafka.records import Received
from contract.wire.topics import WATCH_EVENTS
from nextwatch.console.viewer.people import UserActivity


def seen(*keys):
    """Return the users seen last, after records with *keys*."""
    people = UserActivity()
    for offset, key in enumerate(keys):
        people.take(Received(WATCH_EVENTS.name, 0, offset, key, b"{}"))
    return people.recent()


def test_the_user_seen_last_is_first():
    assert seen(b"u1", b"u2", b"u1") == ["u1", "u2"]


@pytest.mark.parametrize("key", [None, b"", b"   ", b"\x00", b"\xff", b"x" * 1_000_000])
def test_a_key_that_is_no_id_is_of_no_user(key):
    """The page would offer it, and no feed could be asked for by it."""
    assert seen(b"u1", key) == ["u1"]
