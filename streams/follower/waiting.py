"""Keep a bounded number of vectors of generations that are not in service yet.

Of generations that are announced everything is kept, at most one vector for each video. A vector
may come before the announcement of its generation, since the two have different topics: of these
at most `MAX_UNANNOUNCED` are kept, so that a generation that never comes takes no more memory.
"""

from collections import Counter

import structlog

from contract.wire.events import ItemVector
from streams.follower.offers import BundleOffers

log = structlog.get_logger()

MAX_UNANNOUNCED = 10_000


class WaitingVectors:
    """Generation -> video id -> its newest vector."""

    def __init__(self, offers: BundleOffers, counts: Counter[str]) -> None:
        self._offers = offers
        self._counts = counts
        self._vectors: dict[int, dict[str, ItemVector]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._vectors.values()))

    def put(self, vector: ItemVector) -> None:
        """Keep *vector* if a bundle of its generation is, or may yet be, announced."""
        generation = vector.generation
        if not self._offers.is_coming(generation):
            if generation < self._offers.newest_servable:
                self._counts["vectors_outdated"] += 1
                return
            if self._num_unannounced() >= MAX_UNANNOUNCED:
                self._drop(generation)
                return
        self._vectors.setdefault(generation, {})[vector.video_id] = vector

    def take(self, generation: int) -> list[ItemVector]:
        """Return the vectors of *generation*, which comes into service; forget those before it.

        Those of a later one are kept: it may be offered again after it was withdrawn.
        """
        taken = list(self._vectors.get(generation, {}).values())
        self._vectors = {g: found for g, found in self._vectors.items() if g > generation}
        return taken

    def remove(self, video_id: str) -> None:
        """Forget a video that was taken down."""
        for vectors in self._vectors.values():
            vectors.pop(video_id, None)

    def _num_unannounced(self) -> int:
        return sum(
            len(vectors)
            for generation, vectors in self._vectors.items()
            if not self._offers.is_coming(generation)
        )

    def _drop(self, generation: int) -> None:
        if not self._counts["vectors_dropped"]:
            log.warning("vectors_dropped", reason="no bundle announced", generation=generation)
        self._counts["vectors_dropped"] += 1
