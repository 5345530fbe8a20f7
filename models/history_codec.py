"""A window as bytes: the record of the store and of the changelog.

Layout: one byte of version, eight bytes of xxh3-64 over the version and the body, then the
body in MessagePack. The encoding is canonical: equal windows have equal bytes, so states can
be compared by hash. Readers of older versions stay; a newer version stops the reader.
"""

import msgspec
import xxhash

from contract.errors import WindowError
from models.history import Window

VERSION = 1
MAX_RECORD_BYTES = 65_536
_HEADER_BYTES = 9
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Window)


def encode(window: Window) -> bytes:
    """Return the record of *window*, at most `MAX_RECORD_BYTES` long."""
    body = _ENCODER.encode(window)
    record = bytes([VERSION]) + _checksum(VERSION, body) + body
    assert len(record) <= MAX_RECORD_BYTES, "WindowPolicy bounds the record"
    return record


def decode(record: bytes) -> Window:
    """Return the window in *record*.

    Raises:
        WindowError: it is cut, damaged, or of a version this code does not know.
    """
    if len(record) <= _HEADER_BYTES:
        raise WindowError(f"a window record has more than {_HEADER_BYTES} bytes: {len(record)}")
    version, checksum, body = record[0], record[1:_HEADER_BYTES], record[_HEADER_BYTES:]
    if version != VERSION:
        raise WindowError(f"window record of version {version}; this code reads {VERSION}")
    if checksum != _checksum(version, body):
        raise WindowError("the checksum of a window record does not match")
    try:
        return _DECODER.decode(body)
    except msgspec.MsgspecError as error:
        raise WindowError("the body of a window record cannot be read") from error


def _checksum(version: int, body: bytes) -> bytes:
    return xxhash.xxh3_64_digest(bytes([version]) + body)
