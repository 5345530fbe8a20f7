"""Keep the lists that batch jobs publish: similar videos, and the hottest ones.

`nextwatch.gateway.following` puts them in one thread, the event loop reads them. Of more lists than
there is memory for those used least lately go.
"""

from threading import Lock

import msgspec

from contract.wire.events import HottestVideos, SimilarVideos
from contract.wire.topics import HOTTEST_VIDEOS, SIMILAR_VIDEOS
from nextwatch.gateway.memory import BoundedMemory


class PublishedLists:
    """The lists by video and by name, as they are on the wire, in *max_bytes* together."""

    def __init__(self, *, max_bytes: int) -> None:
        self._similar: BoundedMemory[bytes] = BoundedMemory(max_bytes // 2, len)
        self._hottest: BoundedMemory[bytes] = BoundedMemory(max_bytes // 2, len)
        self._lock = Lock()

    def put_similar(self, video_id: str, value: bytes | None) -> None:
        """Replace the list of a video by the record *value*; None removes it."""
        self._put(self._similar, video_id, value)

    def put_hottest(self, list_name: str, value: bytes | None) -> None:
        """Replace a list of the hottest videos by the record *value*; None removes it."""
        self._put(self._hottest, list_name, value)

    def similar(self, video_id: str) -> SimilarVideos | None:
        """Return the list of a video, None if there is none."""
        value = self._get(self._similar, video_id)
        return msgspec.json.decode(value, type=SimilarVideos) if value else None

    def hottest(self, list_name: str) -> HottestVideos | None:
        """Return a list of the hottest videos, None if there is none."""
        value = self._get(self._hottest, list_name)
        return msgspec.json.decode(value, type=HottestVideos) if value else None

    @property
    def memory(self) -> dict[str, tuple[int, int]]:
        """By topic how many lists are here, and the bytes of all."""
        kept = {SIMILAR_VIDEOS.name: self._similar, HOTTEST_VIDEOS.name: self._hottest}
        with self._lock:
            return {topic: (len(lists), lists.num_bytes) for topic, lists in kept.items()}

    def _put(self, lists: BoundedMemory[bytes], key: str, value: bytes | None) -> None:
        with self._lock:
            if value is None:
                lists.remove(key)
            else:
                lists.put(key, value)

    def _get(self, lists: BoundedMemory[bytes], key: str) -> bytes | None:
        with self._lock:
            return lists.get(key)
