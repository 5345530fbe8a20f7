"""Rolling watch history: the last things one user did, oldest first.

A window is a pure function of the *set* of events: the newest by (event time, event id),
bounded by count and by age, each event id once. Age is measured from the newest event in
the window, never from the wall clock. `merge` is therefore commutative, associative and
idempotent, and whatever at-least-once delivery does to the order or the number of the
events, the window comes out the same, byte for byte.

When two events share an id, the greater (time, then content) wins: the only choice that
does not depend on which came first.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import msgspec

from contract.events import Search, UserDeletion, Watch
from contract.identifiers import event_key

DAY_MS = 86_400_000


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


class Window(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of one user. Entries are sorted, oldest first."""

    watches: tuple[WatchEntry, ...] = ()
    searches: tuple[SearchEntry, ...] = ()
    context: ContextEntry | None = None
    erased_before_ms: int = 0

    @property
    def video_ids(self) -> tuple[str, ...]:
        """The watched videos, oldest first; a video watched twice stands twice."""
        return tuple(entry.video_id for entry in self.watches)

    @property
    def newest_ms(self) -> int:
        """The event time of the newest event in the window, 0 when it is empty."""
        newest_watch = self.watches[-1].event_time_ms if self.watches else 0
        newest_search = self.searches[-1].event_time_ms if self.searches else 0
        return max(newest_watch, newest_search)


EMPTY = Window()


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """How much a window remembers. The bounds keep a record below 80 KiB."""

    max_watches: int = 50
    max_searches: int = 20
    max_age_ms: int = 30 * DAY_MS

    def __post_init__(self) -> None:
        for name, value, most in (
            ("max_watches", self.max_watches, 300),
            ("max_searches", self.max_searches, 28),
            ("max_age_ms", self.max_age_ms, 3_650 * DAY_MS),
        ):
            if not 1 <= value <= most:
                raise ValueError(f"{name} must be from 1 to {most}, got {value}")


def fold(
    window: Window, happened: Iterable[Watch | Search | UserDeletion], policy: WindowPolicy
) -> Window:
    """Return *window* with what *happened* folded in; order and repeats do not matter."""
    happened = list(happened)
    if len(happened) == 1 and isinstance(happened[0], Watch):
        appended = _appended(window, happened[0], policy)
        if appended is not None:
            return appended
    watches: list[WatchEntry] = []
    searches: list[SearchEntry] = []
    contexts: list[ContextEntry] = []
    erased_before_ms = 0
    for event in happened:
        if isinstance(event, Watch):
            watches.append(_watch_entry(event))
            contexts += _context_entries(event)
        elif isinstance(event, Search):
            searches.append(_search_entry(event))
        else:
            erased_before_ms = max(erased_before_ms, event.erase_before_ms)
    context = max(contexts, default=None)
    return merge(window, Window(tuple(watches), tuple(searches), context, erased_before_ms), policy)


def merge(one: Window, other: Window, policy: WindowPolicy) -> Window:
    """Return the window of all events of both: the join of a semilattice."""
    erased_before_ms = max(one.erased_before_ms, other.erased_before_ms)
    watches = _newest(one.watches + other.watches, policy.max_watches, erased_before_ms)
    searches = _newest(one.searches + other.searches, policy.max_searches, erased_before_ms)
    contexts = [entry for entry in (one.context, other.context) if entry is not None]
    last_contexts = _newest(tuple(contexts), 1, erased_before_ms)
    merged = Window(watches, searches, None, erased_before_ms)
    oldest_ms = merged.newest_ms - policy.max_age_ms
    return Window(
        _younger(watches, oldest_ms),
        _younger(searches, oldest_ms),
        next(iter(_younger(last_contexts, oldest_ms)), None),
        erased_before_ms,
    )


def _appended(window: Window, event: Watch, policy: WindowPolicy) -> Window | None:
    """Return *window* with one more watch at its end; None unless that is all there is to do.

    Nearly every event is the newest of its user: then nothing has to be sorted, compared or
    dropped but what falls out at the front (measured: a quarter of the time of `merge`).
    """
    entry, contexts = _watch_entry(event), _context_entries(event)
    oldest_ms = max(entry.event_time_ms - policy.max_age_ms, window.erased_before_ms)
    is_newest = entry.event_time_ms > window.newest_ms
    all_stay = all(
        first.event_time_ms > oldest_ms
        for first in (*window.watches[:1], *window.searches[:1], window.context)
        if first is not None
    )
    is_known = any(entry.event_id == known.event_id for known in window.watches)
    if not is_newest or not all_stay or is_known or entry.event_time_ms <= oldest_ms:
        return None
    return Window(
        (*window.watches, entry)[-policy.max_watches :],
        window.searches[-policy.max_searches :],
        contexts[0] if contexts else window.context,
        window.erased_before_ms,
    )


def _watch_entry(event: Watch) -> WatchEntry:
    event_id = event_key(event.event_id)
    return WatchEntry(
        event.event_time_ms, event_id, event.video_id, event.watch_ms, event.duration_ms
    )


def _search_entry(event: Search) -> SearchEntry:
    return SearchEntry(event.event_time_ms, event_key(event.event_id), event.query)


def _context_entries(event: Watch) -> list[ContextEntry]:
    given = event.context
    where = (given.country, given.language, given.device, given.surface)
    who = (given.age_group, given.gender)
    if not any(where) and not any(who):
        return []
    event_id = event_key(event.event_id)
    values = [value or "" for value in (*where, *who)]
    return [ContextEntry(event.event_time_ms, event_id, *values)]


Entry = TypeVar("Entry", WatchEntry, SearchEntry, ContextEntry)


def _newest(entries: tuple[Entry, ...], most: int, erased_before_ms: int) -> tuple[Entry, ...]:
    by_id: dict[bytes, Entry] = {}
    for entry in entries:
        known = by_id.get(entry.event_id)
        if entry.event_time_ms > erased_before_ms and (known is None or entry > known):
            by_id[entry.event_id] = entry
    return tuple(sorted(by_id.values())[-most:])


def _younger(entries: tuple[Entry, ...], oldest_ms: int) -> tuple[Entry, ...]:
    if not entries or entries[0].event_time_ms > oldest_ms:
        return entries
    return tuple(entry for entry in entries if entry.event_time_ms > oldest_ms)
