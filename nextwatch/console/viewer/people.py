"""Follow what single users do, from their events, and know who was here lately.

The thread of the observer tells of records; one event loop follows users.
"""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock

import msgspec

from contract.errors import DecodeError
from contract.kafka.records import Received
from contract.wire.decoding import decode, is_id
from contract.wire.events import Search, Watch
from contract.wire.topics import RECOMMENDATIONS, SEARCH_EVENTS, WATCH_EVENTS
from models.history.history import Window

NUM_RECENT = 30
NUM_WATCHES = 50
_MOST_WAITING = 256


class Deed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A watch or a search of a user; or, with *erased*, that the user was erased."""

    event_id: str = ""
    video_id: str = ""
    query: str = ""
    event_time_ms: int = 0
    watch_ms: int = 0
    duration_ms: int = 0
    erased: bool = False


Deeds = asyncio.Queue[Deed]


class UserActivity:
    """The users that are followed, and those seen last."""

    def __init__(self) -> None:
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._queues: dict[str, list[Deeds]] = defaultdict(list)
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Serve the running event loop."""
        self._loop = asyncio.get_running_loop()

    def take(self, record: Received) -> None:
        """Note an event of a user, and the end of one who was erased.

        A key that is no id, which may be of any size, is of no user.
        """
        try:
            user_id = (record.key or b"").decode()
        except UnicodeDecodeError:
            return
        if not is_id(user_id):
            return
        if record.topic == RECOMMENDATIONS.name:
            if record.value is None:
                self._note_erased(user_id)
            return
        with self._lock:
            self._recent[user_id] = None
            self._recent.move_to_end(user_id)
            if len(self._recent) > NUM_RECENT:
                self._recent.popitem(last=False)
            is_followed = user_id in self._queues
        if is_followed and (deed := _deed_of(record)) is not None:
            self._tell(user_id, deed)

    def recent(self) -> list[str]:
        """Return the users seen last, the latest first."""
        with self._lock:
            return list(reversed(self._recent))

    @contextmanager
    def following(self, user_id: str) -> Iterator[Deeds]:
        """Yield a queue of what *user_id* does from now on; a slow reader misses the oldest."""
        queue: Deeds = asyncio.Queue(_MOST_WAITING)
        with self._lock:
            self._queues[user_id].append(queue)
        try:
            yield queue
        finally:
            with self._lock:
                self._queues[user_id].remove(queue)
                if not self._queues[user_id]:
                    del self._queues[user_id]

    def _note_erased(self, user_id: str) -> None:
        with self._lock:
            self._recent.pop(user_id, None)
        self._tell(user_id, Deed(erased=True))

    def _tell(self, user_id: str, deed: Deed) -> None:
        with self._lock:
            queues = list(self._queues.get(user_id, ()))
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                for queue in queues:
                    self._loop.call_soon_threadsafe(_put, queue, deed)


def deeds_in(window: Window) -> list[Deed]:
    """Return the newest watches and searches of *window*, oldest first."""
    watches = [
        Deed(
            video_id=watch.video_id,
            event_time_ms=watch.event_time_ms,
            watch_ms=watch.watch_ms,
            duration_ms=watch.duration_ms,
        )
        for watch in window.watches[-NUM_WATCHES:]
    ]
    searches = [
        Deed(query=search.query, event_time_ms=search.event_time_ms) for search in window.searches
    ]
    return sorted([*watches, *searches], key=lambda deed: deed.event_time_ms)


def _put(queue: Deeds, deed: Deed) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(deed)


def _deed_of(record: Received) -> Deed | None:
    try:
        if record.topic == WATCH_EVENTS.name:
            watch = decode(WATCH_EVENTS, Watch, record.key, record.value, record.headers)
            return Deed(
                event_id=watch.event_id,
                video_id=watch.video_id,
                event_time_ms=watch.event_time_ms,
                watch_ms=watch.watch_ms,
                duration_ms=watch.duration_ms,
            )
        search = decode(SEARCH_EVENTS, Search, record.key, record.value, record.headers)
    except DecodeError:
        return None
    return Deed(event_id=search.event_id, query=search.query, event_time_ms=search.event_time_ms)
