"""Remember erased users by a hash, so that late events stay out and no id remains.

In the changelog of windows the key of an erasure marker is a zero byte and the hash; no user id
begins with one.
"""

from hashlib import blake2b

_PREFIX = b"\0"


def erasure_marker(user_id: str) -> bytes:
    """Return the erasure marker of *user_id*, a hash of 16 bytes."""
    return blake2b(user_id.encode(), digest_size=16).digest()


def marker_key(marker: bytes) -> bytes:
    """Return the key of *marker* in the changelog."""
    return _PREFIX + marker


def is_marker_key(key: bytes) -> bool:
    """Return whether *key* of the changelog is that of an erasure marker, not of a user."""
    return key.startswith(_PREFIX)


def marker_in(key: bytes) -> bytes:
    """Return the marker in *key*, which is one of `marker_key`."""
    return key.removeprefix(_PREFIX)
