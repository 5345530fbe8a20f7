"""Remember erased users by a hash, so that late events stay out and no id remains.

In the changelog of windows a seal stands under a zero byte and the hash; no user id begins so.
"""

from hashlib import blake2b

_MARK = b"\0"


def seal_of(user_id: str) -> bytes:
    """Return the 16 bytes under which the erasure of *user_id* is remembered."""
    return blake2b(user_id.encode(), digest_size=16).digest()


def seal_key(seal: bytes) -> bytes:
    """Return the key under which *seal* stands in the changelog."""
    return _MARK + seal


def is_seal(key: bytes) -> bool:
    """Return whether *key* of the changelog is that of a seal, not of a user."""
    return key.startswith(_MARK)


def seal_in(key: bytes) -> bytes:
    """Return the seal whose *key* this is."""
    return key.removeprefix(_MARK)
