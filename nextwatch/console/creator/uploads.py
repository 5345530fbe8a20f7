"""Time what happens to the videos uploaded here: retrievable, recommended, taken down, gone.

Retrievable is what the index returns for the video's own vector (`nextwatch.demo.retrievable`),
recommended what a list for any user has. The threads of the observer tell both.
"""

from collections import OrderedDict
from collections.abc import Callable
from threading import Event, Lock, Thread

import msgspec
from confluent_kafka import Message

from contract.points import point_id
from contract.process.clock import Clock
from nextwatch.demo.retrievable import LOOK_EVERY_S, RestIndex

MOST = 50
_STOP_S = 1.0


class Upload(msgspec.Struct, kw_only=True):
    """One video and when what happened to it, in epoch milliseconds; None if not yet."""

    video_id: str
    title: str
    uploaded_ms: int
    retrievable_ms: int | None = None
    recommended_ms: int | None = None
    recommended_to: str | None = None
    taken_down_ms: int | None = None
    gone_ms: int | None = None


class TimedUploads:
    """The newest `MOST` videos that were uploaded, or taken down, by this console."""

    def __init__(
        self, index: RestIndex, collection: Callable[[], str | None], clock: Clock
    ) -> None:
        self._index = index
        self._collection = collection
        self._clock = clock
        self._known: OrderedDict[str, Upload] = OrderedDict()
        self._wanted: set[bytes] = set()
        self._lock = Lock()
        self._has_work, self._is_over = Event(), Event()
        self._thread = Thread(target=self._watch_leaving, name="console-uploads", daemon=True)

    def start(self) -> None:
        """Begin to look for what was taken down."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._is_over.set()
        self._has_work.set()
        self._thread.join(_STOP_S)

    def add(self, video_id: str, title: str) -> None:
        """Follow *video_id* from now on; call it before the upload is sent."""
        with self._lock:
            self._follow(video_id, title)
            self._note_wanted()

    def remove(self, video_id: str) -> None:
        """Note that *video_id* was taken down, whoever uploaded it."""
        with self._lock:
            upload = self._known.get(video_id) or self._follow(video_id, "")
            upload.taken_down_ms = self._clock()
            upload.gone_ms = None
            self._note_wanted()
        self._has_work.set()

    def note_found(self, point: int, at_ms: int) -> None:
        """Note that the index has returned the video with this point id."""
        with self._lock:
            for upload in self._known.values():
                if point_id(upload.video_id) == point and upload.retrievable_ms is None:
                    upload.retrievable_ms = at_ms

    def note_answer(self, message: Message) -> None:
        """Note which of the videos are in a recommendation."""
        value = message.value()
        if not self._wanted or value is None:
            return
        found = [video_id for video_id in tuple(self._wanted) if video_id in value]
        if not found:
            return
        with self._lock:
            for upload in self._known.values():
                if _quoted(upload.video_id) in found and upload.recommended_ms is None:
                    upload.recommended_ms = self._clock()
                    upload.recommended_to = (message.key() or b"").decode(errors="replace")
            self._note_wanted()

    def all(self) -> list[Upload]:
        """Return the uploads, the newest first."""
        with self._lock:
            return [msgspec.structs.replace(one) for one in reversed(self._known.values())]

    def _follow(self, video_id: str, title: str) -> Upload:
        upload = Upload(video_id=video_id, title=title, uploaded_ms=self._clock())
        self._known[video_id] = upload
        self._known.move_to_end(video_id)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return upload

    def _note_wanted(self) -> None:
        self._wanted = {
            _quoted(upload.video_id)
            for upload in self._known.values()
            if upload.recommended_ms is None and upload.taken_down_ms is None
        }

    def _watch_leaving(self) -> None:
        while not self._is_over.is_set():
            self._has_work.wait()
            self._has_work.clear()
            if self._look():
                self._has_work.set()
            self._is_over.wait(LOOK_EVERY_S)

    def _look(self) -> bool:
        """Note what the index does not have any longer; return whether to look again."""
        with self._lock:
            leaving = [
                one.video_id
                for one in self._known.values()
                if one.taken_down_ms is not None and one.gone_ms is None
            ]
        collection = self._collection()
        if not leaving or collection is None:
            return bool(leaving)
        kept = self._index.kept(collection, [point_id(video_id) for video_id in leaving])
        if kept is None:
            return True
        now_ms = self._clock()
        with self._lock:
            for video_id in leaving:
                upload = self._known.get(video_id)
                if upload is not None and point_id(video_id) not in kept:
                    upload.gone_ms = now_ms
        return True


def _quoted(video_id: str) -> bytes:
    return msgspec.json.encode(video_id)
