"""Keep the newest upload of every video, and the ids of videos that were taken down.

It is read from the beginning of `video-uploads` at each start, since the topic is compacted
and a new generation needs all of it. The videos that were taken down are remembered, so that
a vector which was computed before the news came does not bring one back.
"""

from collections.abc import Iterator

import msgspec

from contract.wire.events import VideoUpload

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(VideoUpload)


class UploadCatalogue:
    """The newest upload by video id, kept as bytes: .3 KB each where the objects have .8."""

    def __init__(self) -> None:
        self._uploads: dict[str, bytes] = {}
        self._taken_down: set[str] = set()

    def __len__(self) -> int:
        return len(self._uploads)

    def __iter__(self) -> Iterator[str]:
        return iter(self._uploads)

    def get(self, video_id: str) -> VideoUpload | None:
        """Return the newest upload of a video; None if there is none, or it was taken down."""
        encoded = self._uploads.get(video_id)
        return None if encoded is None else _DECODER.decode(encoded)

    def put(self, upload: VideoUpload) -> None:
        """Store the newest upload of a video."""
        self._uploads[upload.video_id] = _ENCODER.encode(upload)
        self._taken_down.discard(upload.video_id)

    def take_down(self, video_id: str) -> None:
        """Remove a video until it is uploaded again."""
        self._uploads.pop(video_id, None)
        self._taken_down.add(video_id)

    def is_taken_down(self, video_id: str) -> bool:
        """Return whether the newest record of the video was a tombstone.

        A video that nobody has spoken of is not taken down: its vector may be here before its
        upload, since they come by different topics.
        """
        return video_id in self._taken_down
