"""How a video is named in the vector index: collections by generation, points by UUID."""

from functools import lru_cache
from uuid import NAMESPACE_URL, uuid5


def collection_name(prefix: str, generation: int) -> str:
    """Return the collection that holds the item vectors of *generation*, and of no other."""
    return f"{prefix}-g{generation}"


@lru_cache(maxsize=262_144)
def point_id(video_id: str) -> str:
    """Return the UUID under which *video_id* is a point: Qdrant takes no free strings as ids."""
    return str(uuid5(NAMESPACE_URL, f"nextwatch:video:{video_id}"))
