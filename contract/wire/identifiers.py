"""Define valid ids, and shorten an event's id to 16 bytes.

Ids are opaque text of the producer: nothing is folded or normalised, and none becomes a path. The
patterns use only syntax that Python, ECMAScript, Go (RE2) and Rust read alike, but for their end:
`EXACT_END` is Python's, whose ``$`` lets a trailing newline by; `contract.wire.asyncapi` writes
``$``.
"""

import re
from hashlib import blake2b

from msgspec import Meta

EXACT_END = r"\Z"
MAX_ID_BYTES = 128
ID_RULE = f"1 to {MAX_ID_BYTES} bytes of printable text in UTF-8, not only blanks"

_BLANKS = " \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
# Control characters, then those that are invisible, reorder text or separate lines. The joiners
# U+200C and U+200D stay: words of several scripts and many emoji are written with them.
_UNPRINTABLE = (
    r"\x00-\x1F\x7F-\x9F"
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
)
ID_BODY = f"[{_BLANKS}]*[^{_BLANKS}{_UNPRINTABLE}][^{_UNPRINTABLE}]*"
BUNDLE_ID_BODY = "[A-Za-z0-9_][A-Za-z0-9._@=+-]{0,63}"
UUID_BODY = "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_UUID = re.compile(f"{UUID_BODY}|[0-9A-Fa-f]{{32}}")
_UUID_LENGTHS = (36, 32)
_NIL = bytes(16)


def matching(body: str, description: str, *, max_length: int | None = None) -> Meta:
    """Return the constraint that a text matches *body* as a whole."""
    return Meta(pattern=f"^{body}{EXACT_END}", max_length=max_length, description=description)


def is_too_long(text: str) -> bool:
    """Return whether *text* has more bytes than an id may have."""
    return not text.isascii() and len(text.encode()) > MAX_ID_BYTES


def event_key(event_id: str) -> bytes:
    """Return the 16 bytes for *event_id* in windows, the same in every process and version.

    The bytes of a UUID, with or without dashes, in any case; a hash of any other text.
    """
    if len(event_id) in _UUID_LENGTHS and _UUID.fullmatch(event_id):
        return bytes.fromhex(event_id.replace("-", ""))
    return blake2b(f"nextwatch:event:{event_id}".encode(), digest_size=16).digest()


def is_nil(event_id: str) -> bool:
    """Return whether *event_id* is the UUID of zeros, which names no event."""
    return event_id.startswith("00000000") and event_key(event_id) == _NIL


def as_uuid(key: bytes) -> str:
    """Return 16 bytes as the text of a UUID, in lower case."""
    digits = key.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
