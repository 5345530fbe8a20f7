"""How a video is named in the vector index: collections by generation, points by number.

Qdrant takes 64-bit numbers or UUIDs as ids. Points have numbers, since every hit of every search
carries one and UUIDs are slow to make (docs/experiments.md, "Ids of points").
"""

from functools import lru_cache
from hashlib import blake2b

END_OF_POINTS = 1 << 63
"""Every point is smaller than this: it also fits the signed integers of other clients."""


def collection_name(prefix: str, generation: int) -> str:
    """Return the collection that holds the item vectors of *generation*, and of no other."""
    return f"{prefix}-g{generation}"


def owner(cluster_id: str, topic_prefix: str) -> str:
    """Return the mark of a deployment on its collections: its Kafka cluster and its topics."""
    return f"Kafka cluster {cluster_id or '?'}, topics {topic_prefix}*"


def generation_of(prefix: str, collection: str) -> int | None:
    """Return the generation whose collection under *prefix* is called so; None if none is."""
    number = collection.removeprefix(f"{prefix}-g")
    is_ours = number != collection and number.isascii() and number.isdigit()
    return int(number) if is_ours else None


@lru_cache(maxsize=262_144)
def point_id(video_id: str) -> int:
    """Return the number under which *video_id* is a point, the same everywhere and for ever.

    A hash of 63 bits: among ten million videos, two share one with a chance of 1 in 180,000.
    """
    digest = blake2b(f"nextwatch:video:{video_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % END_OF_POINTS
