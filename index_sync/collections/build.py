"""Build the collection of a new generation in slices, beside the one that serves.

The caller takes a step between two batches of uploads, so an upload never waits for more than
one slice. Nothing is announced before every video of the bundle and of the catalogue is in
the collection and counted; a process that is killed in the middle builds again from nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from contract.process.clock import Clock
from contract.wire.events import BundleAnnouncement, VideoUpload
from index_sync.catalogue import UploadCatalogue
from index_sync.collections.collections import GenerationCollections
from index_sync.collections.generation import Generation, Point, Version
from index_sync.publisher import Publisher
from models.serving.items import ItemSnapshot

OF_SNAPSHOT = Version(is_trained=True, updated_at_ms=0)
"""A snapshot's vectors are trained ones, and older than all that came after the bundle."""


@dataclass(slots=True)
class Building:
    """The generation that is being built."""

    announcement: BundleAnnouncement
    steps: Iterator[None]
    started_s: float


def build(
    collections: GenerationCollections,
    number: int,
    snapshot: ItemSnapshot,
    *,
    catalogue: UploadCatalogue,
    publisher: Publisher,
    clock: Clock,
    slice_videos: int,
) -> Iterator[None]:
    """Fill the empty collection of generation *number*, at most *slice_videos* in a step.

    Raises:
        ContractError: at the end the index does not hold what was written.
    """
    for start in range(0, len(snapshot.video_ids), slice_videos):
        collections.write(number, _slice(snapshot, start, start + slice_videos, catalogue))
        yield
    while missing := _missing(catalogue, collections.generations[number], slice_videos):
        publisher.vectors(collections.add(number, missing, now_ms=clock()))
        yield
    publisher.flush()
    collections.verify(number)


def _slice(
    snapshot: ItemSnapshot, start: int, stop: int, catalogue: UploadCatalogue
) -> Iterator[Point]:
    rows = zip(snapshot.video_ids[start:stop], snapshot.output_ND[start:stop].tolist(), strict=True)
    for video_id, vector in rows:
        if not catalogue.is_taken_down(video_id):
            yield Point(video_id, vector, OF_SNAPSHOT)


def _missing(catalogue: UploadCatalogue, generation: Generation, count: int) -> list[VideoUpload]:
    done = generation.versions.keys() | generation.unfit
    missing = islice((video_id for video_id in catalogue if video_id not in done), count)
    return [upload for video_id in missing if (upload := catalogue.get(video_id)) is not None]
