"""Build dead letters: the original bytes and headers, with the reason and the source.

It is the record as it came, so that it can be sent again. Only a part too large for any broker
is cut, since a letter that cannot be delivered would stop the stream for good; ``dlq.cut`` names
the parts that are not whole, and lengths and checksums tell of them.
"""

import hashlib
from collections.abc import Sequence

from contract.errors import DecodeError
from contract.kafka.outbox import Header, Outgoing
from contract.kafka.records import Received
from contract.version import VERSION
from contract.wire.topics import Layout, Topic

MAX_KEPT_BYTES = 262_144
"""Longer values are cut here; ``dlq.length`` and ``dlq.sha256`` tell of the whole."""
MAX_KEPT_KEY_BYTES = 4_096
"""Longer keys are cut here; then ``dlq.key_length`` and ``dlq.key_sha256`` tell of the whole."""
MAX_KEPT_HEADER_BYTES = 16_384
"""Bytes of headers that are kept, names and values; ``dlq.lost_headers`` counts the rest."""

REASONS = {
    "empty": "a value of no bytes",
    "tombstone": "no value, on a topic that carries no tombstones",
    "key_missing": "no key, or one of no bytes",
    "key_too_long": "a key of more than 256 bytes",
    "key_encoding": "a key that is not UTF-8",
    "key_mismatch": "a key other than the id in the value: its partition may not be the id's",
    "misplaced": "a key on another partition than murmur2 puts it; a replay of the letter mends it",
    "header_encoding": "the name of a header is not UTF-8; the letter bears none of the headers",
    "headers_too_large": "more than 64 headers, or more than 16 KiB of them",
    "too_large": "a value larger than its topic allows; nothing of it was parsed",
    "encoding": "JSON in another encoding than UTF-8 (UTF-16, UTF-32, Latin-1), or with a byte order "
    "mark, or with half a surrogate pair",
    "json": "no JSON document, or more than one",
    "depth": "more than 32 levels, in unknown fields, too",
    "duplicate_key": "an object with one key twice, in unknown fields, too",
    "missing": "a required field is not there",
    "type": "a required field, a number, or the whole document is of another JSON type",
    "range": "a number out of its bounds",
    "length": "a required text or list is too short or too long",
    "pattern": "a text that is not of the form its field has",
    "bad_id": "an id that is not 1 to 128 bytes of printable text, or is only blanks; the nil UUID as "
    "event_id or request_id, and only there",
    "enum": "a word that is none of those its field knows",
    "ts_unit": "a time in seconds, or in units finer than milliseconds",
    "ts_range": "a time of zero or below",
    "ts_future": "a time over five minutes after the record's own, or an hour after the reader's clock",
    "generation_unknown": "an item vector of a generation nobody announced in time, or too many wait",
    "vector_dim": "an item vector of another width than its bundle says",
    "vector_norm": "an output vector whose norm is not one",
}
"""Every word that ``dlq.reason`` may be, or begin with before a colon, and its meaning.

After the colon stands the field that it is about: ``type:watch_ms``, ``bad_id:videos.video_id``.
"""


def dead_letter(
    record: Received, error: DecodeError, *, layout: Layout, topic: Topic, app: str, now_ms: int
) -> Outgoing:
    """Return *record* of *topic* as a dead letter: its own headers first, then ``dlq.*``."""
    body, key = record.value or b"", record.key or b""
    reasons = {
        "dlq.reason": error.reason,
        "dlq.topic": topic.name,
        "dlq.partition": str(record.partition),
        "dlq.offset": str(record.offset),
        "dlq.ts": str(now_ms),
        "dlq.app": app,
        "dlq.version": VERSION,
        "dlq.length": str(len(body)),
        "dlq.sha256": hashlib.sha256(body).hexdigest(),
    }
    if record.ingested_at_ms > 0:
        reasons["dlq.record_ts"] = str(record.ingested_at_ms)
    is_readable = error.reason != "header_encoding"
    kept_headers = _kept(record.headers) if is_readable else []
    reasons |= _cuts(body, key, num_lost_headers=len(record.headers) - len(kept_headers))
    if not is_readable:
        del reasons["dlq.lost_headers"]  # how many there are is not known either
    return Outgoing(
        layout.dlq_name(topic),
        None if record.key is None else key[:MAX_KEPT_KEY_BYTES],
        None if record.value is None else body[:MAX_KEPT_BYTES],
        headers=[*kept_headers, *((name, text.encode()) for name, text in reasons.items())],
    )


def _cuts(body: bytes, key: bytes, *, num_lost_headers: int) -> dict[str, str]:
    """Return the headers that tell of what is not kept whole; none for nearly every letter."""
    cut = {
        "value": len(body) > MAX_KEPT_BYTES,
        "key": len(key) > MAX_KEPT_KEY_BYTES,
        "headers": num_lost_headers > 0,
    }
    told: dict[str, str] = {}
    if any(cut.values()):
        told["dlq.cut"] = ",".join(part for part, is_cut in cut.items() if is_cut)
    if cut["key"]:
        told["dlq.key_length"] = str(len(key))
        told["dlq.key_sha256"] = hashlib.sha256(key).hexdigest()
    if cut["headers"]:
        told["dlq.lost_headers"] = str(num_lost_headers)
    return told


def _kept(headers: Sequence[Header]) -> list[Header]:
    kept: list[Header] = []
    num_bytes = 0
    for name, value in headers:
        num_bytes += len(name.encode()) + len(value or b"")
        if num_bytes > MAX_KEPT_HEADER_BYTES:
            break
        kept.append((name, value))
    return kept
