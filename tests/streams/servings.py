"""A serving with vectors that a test can draw, on the real item store and ranker."""

import numpy as np

from contract.wire.events import BundleAnnouncement, BundleState
from models.serving.items import ItemStore
from models.serving.ranking import Ranker, RankerParams
from streams.serving.generation import Serving
from tests.support.builders import T0, item_vector


class FixedEncoder:
    """Gives every user the same vector."""

    def __init__(self, vector):
        self.vector = vector

    def encode(self, windows, items, now_ms, rows=None):
        return np.tile(np.array(self.vector, np.float32), (len(windows), 1))


def serving(videos, *, user_vector=(1.0, 0.0), generation=1):
    """Return a serving of *videos*, a dict of unit vectors of two components."""
    made = Serving(
        bundle_id=f"b{generation}",
        generation=generation,
        collection=f"nextwatch-g{generation}",
        encoder=FixedEncoder(user_vector),
        ranker=Ranker(RankerParams()),
        items=ItemStore(2, 2),
    )
    for video_id, vector in videos.items():
        made.put(item_vector(video_id, vector, generation=generation))
    return made


def offer(generation, *, state=BundleState.INDEXED):
    """Return an announcement of the bundle of *generation*."""
    return BundleAnnouncement(
        bundle_id=f"b{generation}",
        generation=generation,
        state=state,
        url=f"file://nowhere/b{generation}",
        manifest_sha256="0" * 64,
        announced_at_ms=T0,
    )
