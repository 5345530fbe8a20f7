"""A dead letter: whole, with its reason and the place it was read from."""

import hashlib

from contract.errors import DecodeError
from contract.kafka.records import UNREADABLE, Received
from contract.version import VERSION
from contract.wire.dead_letters import MAX_KEPT_BYTES, MAX_KEPT_KEY_BYTES, dead_letter
from contract.wire.topics import WATCH_EVENTS, Layout
from tests.support.builders import T0

JSON = DecodeError("json", "not a JSON document")


def letter_of(value=b"{", *, key=b"u1", headers=(), error=JSON):
    """Return the dead letter of a record of `watch-events` on a cluster with a prefix."""
    return dead_letter(
        Received("watch-events", 3, 41, key, value, T0, headers),
        error,
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
        "dlq.record_ts": str(T0).encode(),
        "dlq.app": b"test",
        "dlq.version": VERSION.encode(),
        "dlq.length": b"1",
        "dlq.sha256": hashlib.sha256(b"{").hexdigest().encode(),
    }


def test_a_huge_value_is_cut_with_length_and_checksum_of_the_whole():
    """The dead-letter topic takes every letter, however large the record was."""
    huge = b"x" * (MAX_KEPT_BYTES + 1)
    letter = letter_of(huge)

    assert letter.value == huge[:-1]
    assert dict(letter.headers)["dlq.length"] == str(len(huge)).encode()
    assert dict(letter.headers)["dlq.sha256"] == hashlib.sha256(huge).hexdigest().encode()
    assert dict(letter.headers)["dlq.cut"] == b"value"


def test_a_tombstone_stays_one():
    """None is not the empty value: a bad tombstone is kept as it came."""
    assert letter_of(None).value is None
    assert letter_of(b"").value == b""


def test_a_huge_key_is_cut_with_length_and_checksum_of_the_whole():
    """A letter that no broker takes would stop the stream for good."""
    huge = b"k" * (MAX_KEPT_KEY_BYTES + 1)
    letter = letter_of(key=huge)
    told = dict(letter.headers)

    assert letter.key == huge[:-1]
    assert (told["dlq.cut"], told["dlq.key_length"]) == (b"key", str(len(huge)).encode())
    assert told["dlq.key_sha256"] == hashlib.sha256(huge).hexdigest().encode()


def test_of_too_many_headers_the_first_are_kept_and_the_rest_are_counted():
    """Whatever the contract allows is kept; a megabyte of headers is not."""
    given = tuple((f"h{n}", b"x" * 1_000) for n in range(1_000))
    letter = letter_of(headers=given)
    kept = [header for header in letter.headers if not header[0].startswith("dlq.")]

    assert kept == list(given[: len(kept)])
    assert sum(len(name) + len(value) for name, value in kept) > 15_000
    assert dict(letter.headers)["dlq.lost_headers"] == str(1_000 - len(kept)).encode()


def test_the_largest_letter_is_smaller_than_what_a_dead_letter_topic_takes():
    """Value, key and headers all cut, and everything that is told of them."""
    headers = tuple((f"h{n}", b"x" * 1_000) for n in range(1_000))
    letter = letter_of(b"x" * 10_000_000, key=b"k" * 1_000_000, headers=headers)
    in_headers = sum(len(name) + len(value or b"") for name, value in letter.headers)

    assert dict(letter.headers)["dlq.cut"] == b"value,key,headers"
    assert len(letter.value) + len(letter.key) + in_headers < 300_000


def test_a_forged_dlq_header_comes_before_the_true_one():
    """Of two headers of one name the last counts."""
    letter = letter_of(headers=(("dlq.reason", b"forged"),))

    assert letter.headers[0] == ("dlq.reason", b"forged")
    assert dict(letter.headers)["dlq.reason"] == b"json"


def test_unreadable_headers_are_left_out_with_a_reason():
    """No client in Python gives them; they are where the record came from."""
    error = DecodeError("header_encoding", "")
    told = dict(letter_of(headers=UNREADABLE, error=error).headers)

    assert told["dlq.cut"] == b"headers"
    assert all(name.startswith("dlq.") and name != "dlq.lost_headers" for name in told)
