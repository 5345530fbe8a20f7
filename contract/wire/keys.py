"""Place keys as Kafka does: murmur2 of the key modulo the number of partitions.

A producer with another partitioner (librdkafka's default is CRC32) puts one user's events on two
partitions, and two workers would each keep half of a window. So every reader of keyed events
checks the place of each record (`contract.wire.decoding.check_place`).
"""

from functools import lru_cache
from struct import unpack_from

MAX_KEY_BYTES = 256

_SEED, _MIX, _MOST = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF
_BLOCK = 4


@lru_cache(maxsize=16_384)  # 0.1 µs for a key met again, 2 µs for a new one
def murmur2(key: bytes) -> int:
    """Return the 32-bit murmur2 hash of *key*, with the seed of Kafka's default partitioner."""
    num_blocks = len(key) // _BLOCK
    h = _SEED ^ len(key)
    for block in unpack_from(f"<{num_blocks}I", key):
        k = block * _MIX & _MOST
        h = h * _MIX & _MOST ^ (k ^ k >> 24) * _MIX & _MOST
    if rest := key[num_blocks * _BLOCK :]:
        h = (h ^ int.from_bytes(rest, "little")) * _MIX & _MOST
    h = (h ^ h >> 13) * _MIX & _MOST
    return h ^ h >> 15


def partition_of(key: bytes, num_partitions: int) -> int:
    """Return the partition that *key* belongs to."""
    return (murmur2(key) & _POSITIVE) % num_partitions
