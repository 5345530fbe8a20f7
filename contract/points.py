"""Name collections by generation, and points of the vector index by number.

Qdrant takes 64-bit numbers or UUIDs as ids. Points have numbers, since every hit of every search
carries one and UUIDs are slow to make (docs/experiments.md, "Ids of points").
"""

from functools import lru_cache
from hashlib import blake2b

POINT_BYTES = 8
END_OF_POINTS = 1 << 63
"""Every point is smaller than this: it also fits the signed integers of other clients."""


def collection_name(prefix: str, generation: int) -> str:
    """Return the name of the collection with the item vectors of *generation*."""
    return f"{prefix}-g{generation}"


def owner(cluster_id: str, topic_prefix: str) -> str:
    """Return the owner mark of a deployment: its Kafka cluster and its topics."""
    return f"Kafka cluster {cluster_id or '?'}, topics {topic_prefix}*"


def generation_of(prefix: str, collection: str) -> int | None:
    """Return the generation of *collection* under *prefix*; None for another name."""
    number = collection.removeprefix(f"{prefix}-g")
    is_ours = number != collection and number.isascii() and number.isdigit()
    return int(number) if is_ours else None


@lru_cache(maxsize=262_144)
def point_id(video_id: str) -> int:
    """Return the point id of *video_id*, which is the same in every process and version.

    A hash of 63 bits: among ten million videos, two share one with a chance of 1 in 180,000.
    """
    digest = blake2b(f"nextwatch:video:{video_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % END_OF_POINTS
