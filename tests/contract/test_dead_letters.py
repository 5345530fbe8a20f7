"""A dead letter: whole, with its reason and the place it was read from."""

import hashlib

from contract.dead_letters import MAX_KEPT_BYTES, dead_letter
from contract.errors import DecodeError
from contract.records import Received
from contract.topics import WATCH_EVENTS, Layout
from tests.builders import T0


def letter_of(value=b"{", *, key=b"u1", headers=()):
    """Return the dead letter of a record of `watch-events` on a cluster with a prefix."""
    return dead_letter(
        Received("watch-events", 3, 41, key, value, T0, headers),
        DecodeError("json", "not a JSON document"),
        layout=Layout(prefix="prod-"),
        topic=WATCH_EVENTS,
        app="test",
        now_ms=T0 + 5,
    )


def test_it_is_the_record_with_its_own_headers_first():
    """Whoever mends the producer finds what it sent, and may send it again."""
    letter = letter_of(headers=(("trace", b"7"), ("empty", None)))

    assert (letter.topic, letter.partition) == ("prod-watch-events.dlq", -1)
    assert (letter.key, letter.value) == (b"u1", b"{")
    assert letter.headers[:2] == [("trace", b"7"), ("empty", None)]


def test_its_headers_say_why_and_from_where():
    """The topic is named as the contract names it, whatever its prefix on this cluster."""
    assert dict(letter_of().headers) == {
        "dlq.reason": b"json",
        "dlq.topic": b"watch-events",
        "dlq.partition": b"3",
        "dlq.offset": b"41",
        "dlq.ts": str(T0 + 5).encode(),
        "dlq.app": b"test",
        "dlq.length": b"1",
        "dlq.sha256": hashlib.sha256(b"{").hexdigest().encode(),
    }


def test_of_a_huge_value_the_beginning_is_kept_and_the_whole_is_told_of():
    """The dead-letter topic takes every letter, however large the record was."""
    huge = b"x" * (MAX_KEPT_BYTES + 1)
    letter = letter_of(huge)

    assert letter.value == huge[:-1]
    assert dict(letter.headers)["dlq.length"] == str(len(huge)).encode()
    assert dict(letter.headers)["dlq.sha256"] == hashlib.sha256(huge).hexdigest().encode()


def test_a_tombstone_stays_one():
    """None is not the empty value: a bad tombstone is kept as it came."""
    assert letter_of(None).value is None
    assert letter_of(b"").value == b""
