"""Know what the videos are called, from `video-uploads`, in bounded memory."""

from collections.abc import Iterable
from threading import Lock

import msgspec

from contract.errors import DecodeError
from contract.kafka.records import Received
from contract.wire.decoding import decode, tombstone_id
from contract.wire.events import VideoUpload
from contract.wire.topics import VIDEO_UPLOADS
from nextwatch.gateway.memory import BoundedMemory

MAX_BYTES = 64 << 20
_FIELDS_BYTES = 256


class VideoCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a card shows of a video."""

    video_id: str
    title: str
    category: str
    channel_id: str
    duration_ms: int
    uploaded_at_ms: int


class KnownVideos:
    """The videos that were uploaded and not taken down; any thread puts and asks."""

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._videos: BoundedMemory[VideoCard] = BoundedMemory(max_bytes, _size_of)
        self._lock = Lock()

    def take(self, record: Received) -> None:
        """Apply a record of `video-uploads`; what breaks the contract is left out."""
        try:
            if record.value is None:
                video_id = tombstone_id(record.key, record.headers)
                with self._lock:
                    self._videos.remove(video_id)
                return
            upload = decode(VIDEO_UPLOADS, VideoUpload, record.key, record.value, record.headers)
        except DecodeError:
            return
        video = VideoCard(
            video_id=upload.video_id,
            title=upload.title,
            category=upload.category or "",
            channel_id=upload.channel_id or "",
            duration_ms=upload.duration_ms,
            uploaded_at_ms=upload.uploaded_at_ms,
        )
        with self._lock:
            self._videos.put(video.video_id, video)

    def of(self, video_ids: Iterable[str]) -> dict[str, VideoCard]:
        """Return those of *video_ids* that are known."""
        with self._lock:
            found = {video_id: self._videos.get(video_id) for video_id in video_ids}
        return {video_id: video for video_id, video in found.items() if video is not None}


def _size_of(video: VideoCard) -> int:
    return _FIELDS_BYTES + 4 * (len(video.title) + len(video.category) + len(video.channel_id))
