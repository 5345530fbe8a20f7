"""Damage valid events at random; the same seed gives the same records.

Half of them are damaged as bytes, as by a faulty disk or a careless proxy; half as JSON, as by a
producer with a bug. About a third is still valid, and of those most say something else than before.
"""

import json
import random
from collections.abc import Iterator
from typing import NamedTuple

from contract.wire.events import Context, encode
from tests.support.builders import asking, deletion, search, watch

TELLING_BYTES = b'\x00\x09\x0a\x1f "\\,:{}[]-+.0123456789aefnrtuE\x7f\x80\xc0\xe2\xed\xf0\xff'
TELLING_VALUES = (
    None, True, False, 0, -1, 1, 0.5, -0.0, 1e300, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**40,
    "", " ", "0", "null", "NaN", "v1", "a b", "x" * 64, "x" * 65, "x" * 300, "é", "\U0001f600",
    "\x00", "\r\n", "\u2028", "<b>", "../..", '"', "\\", "DE", "2023-11-14T22:13:20Z",
    1_700_000_000, 1_700_000_000_000, 1_700_000_000_000_000, 1_800_000_000_000_000,
    [], [1], {}, {"country": "DE"}, {"a": {"b": [{}]}},
)  # fmt: skip
STYLES = (
    json.JSONEncoder(),
    json.JSONEncoder(ensure_ascii=False),
    json.JSONEncoder(separators=(",", ":")),
)


class Damaged(NamedTuple):
    """A record that was a valid event once."""

    topic: str
    key: bytes | None
    value: bytes | None


def mutations(number_of: int, *, seed: int, number_of_users: int = 2_000) -> Iterator[Damaged]:
    """Yield damaged events of some users, drawn from *seed*; several are of the same event."""
    rng = random.Random(seed)
    valid = [_valid(rng, number, number_of_users) for number in range(number_of // 10)]
    for _ in range(number_of):
        topic, key, value = rng.choice(valid)
        if rng.random() < 0.6:
            value = _damaged_json(json.loads(value), rng)
        else:
            for _ in range(rng.choice((1, 1, 1, 2, 4))):
                value = _damaged_bytes(value, rng)
        if rng.random() < 0.03:
            key = rng.choice((None, b"", b"\xff", b"m1 ", _damaged_bytes(key, rng)))
        yield Damaged(topic, key, None if rng.random() < 0.005 else value)


def _valid(rng, number, number_of_users):
    user_id, at_ms = f"m{rng.randrange(number_of_users)}", rng.randrange(60_000)
    kind = rng.random()
    if kind < 0.05:
        event, topic = deletion(user_id=user_id, at_ms=at_ms // 2), "user-deletions"
    elif kind < 0.10:
        event = asking(f"mutation/{number}", user_id=user_id, at_ms=at_ms, number=20)
        topic = "recommendation-requests"
    elif kind < 0.25:
        event, topic = search(f"cats {number}", user_id=user_id, at_ms=at_ms), "search-events"
    else:
        context = Context(country="DE", language="de", device="phone") if kind < 0.6 else None
        video_id, name = f"v{rng.randrange(99)}", f"mutation/{number}"
        event = watch(video_id, user_id=user_id, at_ms=at_ms, name=name, context=context)
        topic = "watch-events"
    return topic, user_id.encode(), encode(event)


def _damaged_bytes(value, rng):
    at, end = sorted((rng.randrange(len(value) + 1), rng.randrange(len(value) + 1)))
    before, cut, after = value[:at], value[at:end], value[end:]
    byte = bytes([rng.choice(TELLING_BYTES)])
    flipped = bytes(each ^ 1 << rng.randrange(8) for each in value[at : at + 1])
    return rng.choice(
        (
            before + flipped + value[at + 1 :],
            before + byte + value[at + 1 :],
            before + byte + value[at:],
            before + value[at + 1 :],
            before + cut + cut + after,
            before + after,
            before + rng.randbytes(3) + value[at:],
        )
    )


def _damaged_json(document, rng):
    name = rng.choice(list(document))
    written = rng.choice(STYLES).encode
    match rng.randrange(8):
        case 0:
            document[name] = rng.choice(TELLING_VALUES)
        case 1:
            del document[name]
        case 2:
            document[rng.choice((name.upper(), name + " ", "__proto__"))] = document.pop(name)
        case 3:
            document["unknown"] = rng.choice(TELLING_VALUES)
        case 4:
            depth = rng.randrange(20, 40)
            return f'{written(document)[:-1]},"unknown":{"[" * depth}{"]" * depth}}}'.encode()
        case 5:
            return f"{written(document)[:-1]},{written({name: document[name]})[1:]}".encode()
        case 6:
            given = document[name]
            factor = rng.choice((-1, 0, 1e-3, 2, 10, 1_000))
            document[name] = int(given * factor) if isinstance(given, int) else given
        case _:
            document = dict(sorted(document.items(), key=lambda _: rng.random()))
    return written(document).encode()
