"""Compare the videos on `video-uploads` with the points of the collection in service."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from random import Random

from contract.errors import DecodeError
from contract.kafka.records import Received
from contract.points import point_id
from contract.wire.decoding import check_place, decode, tombstone_id
from contract.wire.events import VideoUpload
from contract.wire.topics import VIDEO_UPLOADS
from nextwatch.doctor.diagnosis import Diagnosis, PartHealth

NUM_SAMPLED = 200
_MOST_NAMED = 5
_REBUILD = (
    "look at the log of index_sync and at video-uploads.dlq; while it catches up this passes by "
    "itself, and a restart of index_sync compares everything and writes what is missing"
)


class LiveVideos:
    """The ids of the videos that are up, and of those that were taken down."""

    def __init__(self) -> None:
        self.live: set[str] = set()
        self.taken_down: set[str] = set()
        self.num_unreadable = 0

    def apply_records(self, records: Iterable[Received]) -> "LiveVideos":
        """Apply records of `video-uploads`, the oldest first."""
        for record in records:
            try:
                self._apply(record)
            except DecodeError:
                self.num_unreadable += 1
        return self

    def _apply(self, record: Received) -> None:
        if record.value is None:
            video_id = tombstone_id(record.key, record.headers)
            self.live.discard(video_id)
            self.taken_down.add(video_id)
            return
        upload = decode(VIDEO_UPLOADS, VideoUpload, record.key, record.value, record.headers)
        check_place(record, upload)
        self.live.add(upload.video_id)
        self.taken_down.discard(upload.video_id)


def sample(video_ids: Collection[str], rng: Random, most: int = NUM_SAMPLED) -> list[str]:
    """Return up to *most* of *video_ids*."""
    ordered = sorted(video_ids)
    return ordered if len(ordered) <= most else rng.sample(ordered, most)


def index_diagnoses(
    videos: LiveVideos,
    collection: str,
    num_points: int,
    sampled: Sequence[str],
    found_points: Collection[int],
) -> Iterator[Diagnosis]:
    """Yield how *num_points* compares with the catalogue, and whether the sample is as it should.

    *found_points* are the points of the *sampled* videos, live ones and others, that are there.
    """
    told = f"{len(videos.live):,} videos on the topic, {num_points:,} points in {collection}"
    if num_points < len(videos.live):
        yield _of("number of videos", PartHealth.WRONG, told, _REBUILD)
    elif num_points > len(videos.live):
        more = (
            "uploads that came meanwhile, or videos that the trainer knows and nobody has uploaded: "
            "harmless where the number of the latter does not grow"
        )
        yield _of("number of videos", PartHealth.NOTED, told, more)
    else:
        yield _of("number of videos", PartHealth.OK, told)
    missing = [v for v in sampled if v in videos.live and point_id(v) not in found_points]
    strays = [v for v in sampled if v in videos.taken_down and point_id(v) in found_points]
    told = f"{len(sampled)} ids looked up"
    if missing:
        yield _of(
            "sample", PartHealth.WRONG, f"{told}, not retrievable: {_named(missing)}", _REBUILD
        )
    if strays:
        gone = f"{told}, taken down and still in the index: {_named(strays)}"
        yield _of("sample", PartHealth.WRONG, gone, _REBUILD)
    if not missing and not strays:
        yield _of("sample", PartHealth.OK, f"{told}, all as the topic has them")
    if videos.num_unreadable:
        yield _of(
            "unreadable uploads",
            PartHealth.NOTED,
            f"{videos.num_unreadable} records of video-uploads cannot be read",
            "`nextwatch dlq list --topic video-uploads` says why",
        )


def no_collection(collection: str) -> Diagnosis:
    """Return the diagnosis that the collection in service is missing."""
    return _of(
        collection,
        PartHealth.WRONG,
        "this collection of the generation in service does not exist",
        "start index_sync, which builds it; see that NEXTWATCH_QDRANT_COLLECTION_PREFIX is the "
        "same for index_sync and streams",
    )


def _named(video_ids: Sequence[str]) -> str:
    more = f" and {len(video_ids) - _MOST_NAMED} more" if len(video_ids) > _MOST_NAMED else ""
    return ", ".join(video_ids[:_MOST_NAMED]) + more


def _of(what: str, health: PartHealth, found: str, remedy: str = "") -> Diagnosis:
    return Diagnosis(check="index", what=what, health=health, found=found, remedy=remedy)
