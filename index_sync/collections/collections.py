"""Manage the vector collections, one per generation: the only code that writes to them.

What is remembered of a collection (`Generation.versions`) changes only after the index has
acknowledged the change.
"""

from collections.abc import Iterable, Sequence

import structlog

from contract.errors import ContractError
from contract.points import collection_name, generation_of
from contract.wire.events import BundleAnnouncement, ItemVector, VideoUpload
from index_sync.bundles.loaded_bundle import LoadedBundle
from index_sync.collections.generation import Generation, Point, point_of
from index_sync.collections.index import VectorIndex

log = structlog.get_logger()


class GenerationCollections:
    """The collections by generation number, complete or being built."""

    def __init__(self, index: VectorIndex, prefix: str) -> None:
        self._index = index
        self._prefix = prefix
        self.generations: dict[int, Generation] = {}

    def claim(self) -> None:
        """Check that the collections of this prefix are ours, and mark those without an owner.

        Raises:
            ContractError: another deployment uses this prefix.
        """
        for name in self._collections():
            owner = self._index.owner_of(name)
            if owner is None:
                self._index.claim(name)
            elif owner != self._index.owner:
                raise ContractError(
                    f"collection {name} is of {owner}, and this is {self._index.owner}: set "
                    "NEXTWATCH_QDRANT_COLLECTION_PREFIX to a prefix of this deployment's own, or, "
                    f"if the other one is gone, run `nextwatch collections --drop {self._prefix}`"
                )

    def find(self, announcement: BundleAnnouncement, opened: LoadedBundle) -> Generation | None:
        """Register the collection of an indexed generation; None if the index has lost it."""
        generation = self._generation(announcement, opened)
        if generation.collection not in self._index.collections():
            return None
        generation.versions = self._index.versions(generation.collection)
        self.generations[generation.number] = generation
        return generation

    def create(self, announcement: BundleAnnouncement, opened: LoadedBundle) -> Generation:
        """Return a generation with an empty collection; nothing is written to it before `put`.

        May be called in another thread.
        """
        generation = self._generation(announcement, opened)
        self._index.create_empty(generation.collection, generation.output_dim)
        return generation

    def put(self, generation: Generation) -> None:
        """Register a generation that was created."""
        self.generations[generation.number] = generation

    def add(self, number: int, uploads: Sequence[VideoUpload], *, now_ms: int) -> list[ItemVector]:
        """Embed *uploads*, write them into one generation, and return their vectors."""
        generation = self.generations[number]
        vectors = generation.embed(uploads, now_ms=now_ms) if uploads else []
        self.write(number, [point_of(vector) for vector in vectors])
        return vectors

    def write(self, number: int, points: Iterable[Point]) -> int:
        """Write those *points* that are newer than the stored ones; return how many."""
        generation = self.generations[number]
        newer = generation.newer(points)
        if newer:
            self._index.upsert(generation.collection, newer)
            generation.written(newer)
        return len(newer)

    def delete(self, video_ids: Sequence[str]) -> None:
        """Delete videos from every generation."""
        for generation in self.generations.values():
            if video_ids:
                self._index.delete(generation.collection, video_ids)
                generation.removed(video_ids)

    def verify(self, number: int) -> None:
        """Check that a collection has as many points as were written to it.

        Raises:
            ContractError: the numbers differ.
        """
        generation = self.generations[number]
        expected, found = len(generation.versions), self._index.count(generation.collection)
        if found != expected:
            raise ContractError(f"{generation.collection} has {found} points, not {expected}")

    def point_alias(self, newest: int) -> None:
        """Point the alias to the generation *newest*."""
        self._index.point_alias(self._prefix, collection_name(self._prefix, newest))

    def forget_all_but(self, kept: set[int]) -> None:
        """Write to the generations *kept* only."""
        self.generations = {n: found for n, found in self.generations.items() if n in kept}

    def drop_all_but(self, kept: set[int]) -> None:
        """Delete our collections of all generations but *kept*. May be called in another thread."""
        for name, generation in self._collections().items():
            if generation in kept:
                continue
            if self._index.is_foreign(name):
                log.error("collection_kept", collection=name, reason="it is somebody else's")
            else:
                self._index.drop(name)

    def _collections(self) -> dict[str, int]:
        """Return the generations of all collections of this prefix, by name."""
        return {
            name: generation
            for name in sorted(self._index.collections())
            if (generation := generation_of(self._prefix, name)) is not None
        }

    def _generation(self, announcement: BundleAnnouncement, opened: LoadedBundle) -> Generation:
        return Generation(
            announcement.generation,
            collection_name(self._prefix, announcement.generation),
            opened.input_dim,
            opened.output_dim,
            opened.tower,
        )
