"""Define the entries of a history window: one for each event of a user, in sorted tuples.

`models.history.history` says how windows grow and merge, `models.history.codec` how they are
written.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from contract.points import POINT_BYTES, point_id
from contract.wire.events import Impressions, Search, Watch
from contract.wire.identifiers import event_key

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MAX_SHOWN_VIDEOS = 12
"""Of one impression event, the videos in the first slots: what is further down was hardly seen."""


class WatchEntry(NamedTuple):
    """One watch in a window; compared field by field, so time and event id come first.

    ``duration_ms`` is 0 where it is not known.
    """

    event_time_ms: int
    event_id: bytes
    video_id: str
    watch_ms: int
    duration_ms: int


class SearchEntry(NamedTuple):
    """One search in a window."""

    event_time_ms: int
    event_id: bytes
    query: str


class ContextEntry(NamedTuple):
    """The context of the newest watch that had one; empty strings for what is unknown."""

    event_time_ms: int
    event_id: bytes
    country: str
    language: str
    device: str
    surface: str
    age_group: str = ""
    gender: str = ""


class ImpressionEntry(NamedTuple):
    """What was shown at one time: the points of the videos, eight bytes each, little-endian.

    Points are what retrieval finds, whatever the length of the ids, and are looked up all at once.
    """

    event_time_ms: int
    event_id: bytes
    points: bytes


class Window(msgspec.Struct, frozen=True, array_like=True):
    """The history of one user. Entries are sorted, oldest first.

    ``watches`` has the newest watch of each video, ``repeats`` has the earlier watches of these
    videos that are among the newest ``max_watches`` of all.
    """

    watches: tuple[WatchEntry, ...] = ()
    searches: tuple[SearchEntry, ...] = ()
    context: ContextEntry | None = None
    erased_before_ms: int = 0
    impressions: tuple[ImpressionEntry, ...] = ()
    repeats: tuple[WatchEntry, ...] = ()

    @property
    def video_ids(self) -> tuple[str, ...]:
        """The watched videos, each once, in the order of its newest watch, oldest first."""
        return tuple(entry.video_id for entry in self.watches)

    @property
    def counts(self) -> tuple[int, ...]:
        """How often each of ``watches`` was watched, so far as its earlier watches are kept."""
        earlier = Counter(entry.video_id for entry in self.repeats)
        return tuple(1 + earlier[entry.video_id] for entry in self.watches)

    @property
    def newest_ms(self) -> int:
        """The event time of the newest watch or search, 0 when there is none."""
        newest_watch = self.watches[-1].event_time_ms if self.watches else 0
        newest_search = self.searches[-1].event_time_ms if self.searches else 0
        return max(newest_watch, newest_search)

    @property
    def newest_shown_ms(self) -> int:
        """The event time of the newest event of any kind, 0 when the window is empty."""
        newest_shown = self.impressions[-1].event_time_ms if self.impressions else 0
        return max(self.newest_ms, newest_shown)


EMPTY = Window()


AnyEntry = WatchEntry | SearchEntry | ContextEntry | ImpressionEntry
Entry = TypeVar("Entry", WatchEntry, SearchEntry, ContextEntry, ImpressionEntry)


def watch_entry(event: Watch) -> WatchEntry:
    """Return what a window keeps of a watch."""
    event_id = event_key(event.event_id)
    return WatchEntry(
        event.event_time_ms, event_id, event.video_id, event.watch_ms, event.duration_ms
    )


def search_entry(event: Search) -> SearchEntry:
    """Return what a window keeps of a search."""
    return SearchEntry(event.event_time_ms, event_key(event.event_id), event.query)


def impression_entry(event: Impressions) -> ImpressionEntry:
    """Return what a window keeps of impressions: the videos of the first slots."""
    in_order = sorted(event.videos, key=lambda shown: (shown.position, shown.video_id))
    video_ids = list(dict.fromkeys(shown.video_id for shown in in_order))[:MAX_SHOWN_VIDEOS]
    points = b"".join(point_id(video_id).to_bytes(POINT_BYTES, "little") for video_id in video_ids)
    return ImpressionEntry(event.event_time_ms, event_key(event.event_id), points)


def context_entries(event: Watch) -> list[ContextEntry]:
    """Return the context of a watch as a list of one entry, empty where no field is known."""
    given = event.context
    where = (given.country, given.language, given.device, given.surface)
    who = (given.age_group, given.gender)
    if not any(where) and not any(who):
        return []
    event_id = event_key(event.event_id)
    values = [value or "" for value in (*where, *who)]
    return [ContextEntry(event.event_time_ms, event_id, *values)]


def entered(before: Window, after: Window) -> list[WatchEntry]:
    """Return the watches in *after* that are not in *before*: each is accepted once.

    A watch that was delivered again, came too late or was erased is not among them, nor one whose
    video left the window in the same step.
    """
    known = {entry.event_id for entry in (*before.watches, *before.repeats)}
    entries = (*after.watches, *after.repeats)
    return [entry for entry in entries if entry.event_id not in known]


def until(window: Window, latest_ms: int) -> Window:
    """Return *window* without entries dated after *latest_ms*; nearly always *window* itself.

    No event of today's contract is dated so. A window from before may hold one, and ages
    everything else by it.
    """
    context_ms = window.context.event_time_ms if window.context else 0
    if max(window.newest_shown_ms, context_ms) <= latest_ms:
        return window
    return filtered(window, lambda entry: entry.event_time_ms <= latest_ms)


def filtered(window: Window, is_kept: Callable[[AnyEntry], bool]) -> Window:
    """Return *window* with only those entries for which *is_kept* is true."""
    left = Window(
        tuple(sorted(filter(is_kept, window.watches + window.repeats))),
        tuple(filter(is_kept, window.searches)),
        window.context if window.context and is_kept(window.context) else None,
        window.erased_before_ms,
        tuple(filter(is_kept, window.impressions)),
    )
    return with_repeats_apart(left)


def with_repeats_apart(window: Window) -> Window:
    """Return *window*, whose watches may name a video several times, with the repeats apart."""
    watches, repeats = by_video(window.watches, len(window.watches))
    return msgspec.structs.replace(window, watches=watches, repeats=repeats) if repeats else window


def by_video(
    entries: Sequence[WatchEntry], most: int
) -> tuple[tuple[WatchEntry, ...], tuple[WatchEntry, ...]]:
    """Return the newest watch of each of *most* videos, and the repeats beside; both sorted.

    Both are taken from sorted *entries* in a way that loses nothing of what a later call would
    choose: the newest watch of a video, and the newest *most* watches of all.
    """
    newest: dict[str, WatchEntry] = {}
    for entry in entries:
        newest.pop(entry.video_id, None)  # so that the order is that of the newest watches
        newest[entry.video_id] = entry
    watches = last(tuple(newest.values()), most)
    if len(newest) == len(entries):
        return watches, ()
    recent = last(tuple(entries), most)
    return watches, tuple(entry for entry in recent if newest[entry.video_id] is not entry)


def last(entries: tuple[Entry, ...], most: int) -> tuple[Entry, ...]:
    """Return the last *most* of *entries*."""
    return entries[max(len(entries) - most, 0) :]
