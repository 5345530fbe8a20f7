"""The corpus of bad input: each case is a record and its expected outcome.

Most cases are lines of ``tests/data/bad_input.jsonl``: ``id`` (group, number and, where a number
has several, a letter), ``topic``, ``key_b64``, ``value_b64`` (null for none), ``headers``,
``ingested_at_ms`` (the record's own timestamp), ``expect``, ``reason`` (of a dead letter),
``state_effect`` (whether the user's window changes) and a ``note``. The large ones are made here.
They are to be played in order: some are about what came before them.

``expect`` is ACC (accepted), ACC-N (accepted, normalised), DUP (accepted, changes nothing), DEL
(erases), DLQ (dead letter), or N/A: nothing to send, and the note says why.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from contract.errors import DecodeError
from contract.process.clock import ManualClock
from contract.wire.decoding import check_not_future, decode
from contract.wire.events import encode
from contract.wire.topics import TOPICS
from tests.support.builders import T0, watch

CORPUS = Path(__file__).parents[1] / "data" / "bad_input.jsonl"
INGESTED_AT_MS = T0 + 60_000
BY_NAME = {topic.name: topic for topic in TOPICS}


@dataclass(frozen=True)
class Case:
    """One record and its expected outcome."""

    id: str
    topic: str
    key: bytes | None
    value: bytes | None
    expect: str
    reason: str | None = None
    is_change: bool = False
    headers: tuple = ()
    ingested_at_ms: int = INGESTED_AT_MS


def corpus():
    """Return every case that is a record, in the order in which they are to be played."""
    lines = [json.loads(line) for line in CORPUS.read_text().splitlines()]
    return [_case(line) for line in lines if line["expect"] != "N/A"] + list(large_cases())


def judged(case):
    """Return the event of *case* and None, or None and the reason why there is none."""
    topic = BY_NAME[case.topic]
    try:
        event = decode(topic, topic.kind, case.key, case.value, case.headers)
        clock = ManualClock(INGESTED_AT_MS)
        check_not_future(event, ingested_at_ms=case.ingested_at_ms, clock=clock)
    except DecodeError as error:
        return None, error.reason
    return event, None


def _case(line):
    return Case(
        line["id"],
        line["topic"],
        _bytes(line["key_b64"]),
        _bytes(line["value_b64"]),
        line["expect"],
        line["reason"],
        line["state_effect"] == "changed",
        tuple((name, _bytes(value)) for name, value in line["headers"]),
        line["ingested_at_ms"],
    )


def _bytes(text):
    return None if text is None else base64.b64decode(text)


def large_cases():
    """Yield the cases that are too large for the file: in size, in depth or in number."""
    yield _watch("A8", key=b"k" * 1_000_000, reason="key_too_long")
    yield _watch("A20", _padded("A20", 65_536))
    yield _watch("A21", _padded("A21", 65_537), reason="too_large")
    yield _watch("A22", _padded("A22", 900_000), reason="too_large")
    yield _watch("A22b", b"x" * 10_000_000, reason="too_large")
    yield _watch("A24", headers=_headers(1_000, 1_024), reason="headers_too_large")
    yield _watch("A24d", headers=_headers(1, 16_384))
    yield _watch("A24e", headers=_headers(1, 16_385), reason="headers_too_large")
    yield _watch("B45", b"[" * 100_000 + b"]" * 100_000, reason="too_large")
    yield _watch("B45b", _with("B45b", b"[" * 8_000 + b"]" * 8_000), reason="depth")
    yield _watch("B45c", b"[" * 16_000, reason="depth")
    yield _watch("B45d", b'{"a":' * 3_000, reason="depth")
    many_keys = b"{%s}" % b",".join(b'"%d":1' % n for n in range(100_000))
    yield _watch("B47", many_keys, reason="too_large")
    yield _watch("B47b", _with("B47b", b"{%s}" % b",".join(b'"%d":1' % n for n in range(1_500))))
    too_many_digits = encode(watch(user_id="b52")).replace(b"20000", b"9" * 4_301)
    yield _watch("B52", too_many_digits, reason="range")
    yield _watch("B52b", _with("B52b", b"9" * 4_301), reason="range")
    yield _watch("B52c", _with("B52c", b"9" * 4_300))
    yield _watch("B52d", _with("B52d", b"0." + b"1" * 5_000))
    yield from _many("E109", 100, lambda n: f"v{n}", lambda _: 0)
    yield from _many("F114", 2_000, lambda n: f"v{n}", lambda n: n)
    yield from _many("F115", 1_000, lambda _: "again", lambda n: n)


def _watch(name, value=None, *, key=None, reason=None, headers=()):
    user_id = name.lower()
    value = encode(watch(user_id=user_id)) if value is None else value
    expect = "DLQ" if reason else "ACC"
    key = key or user_id.encode()
    return Case(name, "watch-events", key, value, expect, reason, not reason, headers)


def _many(name, number_of, video_of, at_ms_of):
    """Yield watches of one user; those that the window has no room for are not the newest."""
    user_id = name.lower()
    for n in range(number_of):
        event = watch(video_of(n), user_id=user_id, at_ms=at_ms_of(n), name=f"{name}/{n}")
        yield Case(
            f"{name}-{n}", "watch-events", user_id.encode(), encode(event), "ACC", None, None
        )


def _with(name, extra):
    """Return a valid watch with the JSON *extra* in an unknown field."""
    return encode(watch(user_id=name.lower()))[:-1] + b',"x":%s}' % extra


def _padded(name, size):
    empty = _with(name, b'""')
    return empty[:-2] + b"a" * (size - len(empty)) + b'"}'


def _headers(number_of, size):
    """Return headers of *size* bytes each, names and values."""
    names = [f"h{n}" for n in range(number_of)]
    return tuple((name, b"x" * (size - len(name))) for name in names)
