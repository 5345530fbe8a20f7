"""Keep the newest upload of every video, and the ids of videos that were taken down.

It is read from the beginning of `video-uploads` at each start, since the topic is compacted
and a new generation needs all of it. The videos that were taken down are remembered, so that
a vector which was computed before the news came does not bring one back.
"""

from contract.wire.events import VideoUpload


class UploadCatalogue:
    """The newest upload by video id."""

    def __init__(self) -> None:
        self.uploads: dict[str, VideoUpload] = {}
        self._taken_down: set[str] = set()

    def __len__(self) -> int:
        return len(self.uploads)

    def put(self, upload: VideoUpload) -> None:
        """Store the newest upload of a video."""
        self.uploads[upload.video_id] = upload
        self._taken_down.discard(upload.video_id)

    def take_down(self, video_id: str) -> None:
        """Remove a video until it is uploaded again."""
        self.uploads.pop(video_id, None)
        self._taken_down.add(video_id)

    def is_taken_down(self, video_id: str) -> bool:
        """Return whether the newest record of the video was a tombstone.

        A video that nobody has spoken of is not taken down: its vector may be here before its
        upload, since they come by different topics.
        """
        return video_id in self._taken_down
