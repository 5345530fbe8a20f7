"""Rolling watch history: the last things one user did, oldest first.

A window is a pure function of the *set* of events: the newest by (event time, event id),
bounded by count and by age, each event id once. Age is measured from the newest event in
the window, never from the wall clock. `merge` is therefore commutative, associative and
idempotent, and whatever at-least-once delivery does to the order or the number of the
events, the window comes out the same, byte for byte.

When two events share an id, the greater (time, then content) wins: the only choice that
does not depend on which came first.

Impressions are kept beside, for a rule that follows ranking (`streams.rules`). No tower reads
them and they age nothing else, so a window is the same to the models with and without them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import msgspec

from contract.events import Context, Impressions, Search, UserDeletion, Watch
from contract.identifiers import event_key
from contract.points import point_id

DAY_MS = 86_400_000
_CONTEXT_FIELDS = Context.__struct_fields__
POINT_BYTES = 8
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
    """What is remembered of one user. Entries are sorted, oldest first."""

    watches: tuple[WatchEntry, ...] = ()
    searches: tuple[SearchEntry, ...] = ()
    context: ContextEntry | None = None
    erased_before_ms: int = 0
    impressions: tuple[ImpressionEntry, ...] = ()

    @property
    def video_ids(self) -> tuple[str, ...]:
        """The watched videos, oldest first; a video watched twice stands twice."""
        return tuple(entry.video_id for entry in self.watches)

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


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """How much a window remembers. The bounds keep a record below 96 KiB."""

    max_watches: int = 50
    max_searches: int = 20
    max_age_ms: int = 30 * DAY_MS
    max_impressions: int = 24

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("max_watches", self.max_watches, 1, 300),
            ("max_searches", self.max_searches, 1, 28),
            ("max_age_ms", self.max_age_ms, 1, 3_650 * DAY_MS),
            ("max_impressions", self.max_impressions, 0, 32),
        ):
            if not least <= value <= most:
                raise ValueError(f"{name} must be from {least} to {most}, got {value}")


Happened = Watch | Search | Impressions | UserDeletion


def fold(window: Window, happened: Iterable[Happened], policy: WindowPolicy) -> Window:
    """Return *window* with what *happened* folded in; order and repeats do not matter."""
    rest: list[Happened] = []
    for event in happened:
        appended = None if rest else _appended(window, event, policy)
        if appended is None:
            rest.append(event)
        else:
            window = appended
    return merge(window, _window_of(rest), policy) if rest else window


def merge(one: Window, other: Window, policy: WindowPolicy) -> Window:
    """Return the window of all events of both: the join of a semilattice."""
    erased_before_ms = max(one.erased_before_ms, other.erased_before_ms)
    watches = _newest(one.watches + other.watches, policy.max_watches, erased_before_ms)
    searches = _newest(one.searches + other.searches, policy.max_searches, erased_before_ms)
    contexts = [entry for entry in (one.context, other.context) if entry is not None]
    last_contexts = _newest(tuple(contexts), 1, erased_before_ms)
    shown = one.impressions + other.impressions
    impressions = _newest(shown, policy.max_impressions, erased_before_ms) if shown else ()
    merged = Window(watches, searches, None, erased_before_ms, impressions)
    oldest_ms = merged.newest_ms - policy.max_age_ms
    return Window(
        _younger(watches, oldest_ms),
        _younger(searches, oldest_ms),
        next(iter(_younger(last_contexts, oldest_ms)), None),
        erased_before_ms,
        _younger(impressions, merged.newest_shown_ms - policy.max_age_ms),
    )


def with_context(window: Window, given: Context) -> Window:
    """Return *window* with the context *given*; what it does not say stays as it was known."""
    said = {name: value for name in _CONTEXT_FIELDS if (value := getattr(given, name))}
    if not said:
        return window
    known = window.context or ContextEntry(0, b"", "", "", "", "")
    return msgspec.structs.replace(window, context=known._replace(**said))


def _window_of(happened: Iterable[Happened]) -> Window:
    """Return a window, not yet bounded, of what *happened* and nothing else."""
    watches: list[WatchEntry] = []
    searches: list[SearchEntry] = []
    contexts: list[ContextEntry] = []
    impressions: list[ImpressionEntry] = []
    erased_before_ms = 0
    for event in happened:
        match event:
            case Watch():
                watches.append(_watch_entry(event))
                contexts += _context_entries(event)
            case Search():
                searches.append(_search_entry(event))
            case Impressions():
                impressions.append(_impression_entry(event))
            case UserDeletion():
                erased_before_ms = max(erased_before_ms, event.erase_before_ms)
    context = max(contexts, default=None)
    return Window(tuple(watches), tuple(searches), context, erased_before_ms, tuple(impressions))


def _appended(window: Window, event: Happened, policy: WindowPolicy) -> Window | None:
    """Return *window* with one more entry at its end; None unless that is all there is to do.

    Nearly every event is the newest of its user: then nothing has to be sorted, compared or
    dropped but what falls out at the front (measured: a quarter of the time of `merge`).
    """
    if isinstance(event, Watch):
        return _with_watch(window, event, policy)
    if isinstance(event, Impressions):
        return _with_impression(window, event, policy)
    return None


def _with_watch(window: Window, event: Watch, policy: WindowPolicy) -> Window | None:
    entry, contexts = _watch_entry(event), _context_entries(event)
    oldest_ms = max(entry.event_time_ms - policy.max_age_ms, window.erased_before_ms)
    oldest_shown_ms = max(entry.event_time_ms, window.newest_shown_ms) - policy.max_age_ms
    is_newest = entry.event_time_ms > window.newest_ms
    all_stay = all(
        first.event_time_ms > oldest_ms
        for first in (*window.watches[:1], *window.searches[:1], window.context)
        if first is not None
    ) and all(first.event_time_ms > oldest_shown_ms for first in window.impressions[:1])
    is_known = any(entry.event_id == known.event_id for known in window.watches)
    if not is_newest or not all_stay or is_known or entry.event_time_ms <= oldest_ms:
        return None
    return Window(
        (*window.watches, entry)[-policy.max_watches :],
        window.searches[-policy.max_searches :],
        contexts[0] if contexts else window.context,
        window.erased_before_ms,
        _last(window.impressions, policy.max_impressions),
    )


def _with_impression(window: Window, event: Impressions, policy: WindowPolicy) -> Window | None:
    entry = _impression_entry(event)
    oldest_ms = max(entry.event_time_ms, window.newest_shown_ms) - policy.max_age_ms
    is_newest = all(entry > last for last in window.impressions[-1:])
    all_stay = all(first.event_time_ms > oldest_ms for first in window.impressions[:1])
    is_known = any(entry.event_id == known.event_id for known in window.impressions)
    is_gone = entry.event_time_ms <= max(oldest_ms, window.erased_before_ms)
    if not is_newest or not all_stay or is_known or is_gone:
        return None
    return Window(
        window.watches[-policy.max_watches :],
        window.searches[-policy.max_searches :],
        window.context,
        window.erased_before_ms,
        _last((*window.impressions, entry), policy.max_impressions),
    )


def _watch_entry(event: Watch) -> WatchEntry:
    event_id = event_key(event.event_id)
    return WatchEntry(
        event.event_time_ms, event_id, event.video_id, event.watch_ms, event.duration_ms
    )


def _search_entry(event: Search) -> SearchEntry:
    return SearchEntry(event.event_time_ms, event_key(event.event_id), event.query)


def _impression_entry(event: Impressions) -> ImpressionEntry:
    in_order = sorted(event.videos, key=lambda shown: (shown.position, shown.video_id))
    video_ids = list(dict.fromkeys(shown.video_id for shown in in_order))[:MAX_SHOWN_VIDEOS]
    points = b"".join(point_id(video_id).to_bytes(POINT_BYTES, "little") for video_id in video_ids)
    return ImpressionEntry(event.event_time_ms, event_key(event.event_id), points)


def _context_entries(event: Watch) -> list[ContextEntry]:
    given = event.context
    where = (given.country, given.language, given.device, given.surface)
    who = (given.age_group, given.gender)
    if not any(where) and not any(who):
        return []
    event_id = event_key(event.event_id)
    values = [value or "" for value in (*where, *who)]
    return [ContextEntry(event.event_time_ms, event_id, *values)]


Entry = TypeVar("Entry", WatchEntry, SearchEntry, ContextEntry, ImpressionEntry)


def _newest(entries: tuple[Entry, ...], most: int, erased_before_ms: int) -> tuple[Entry, ...]:
    by_id: dict[bytes, Entry] = {}
    for entry in entries:
        known = by_id.get(entry.event_id)
        if entry.event_time_ms > erased_before_ms and (known is None or entry > known):
            by_id[entry.event_id] = entry
    return _last(tuple(sorted(by_id.values())), most)


def _last(entries: tuple[Entry, ...], most: int) -> tuple[Entry, ...]:
    return entries[max(len(entries) - most, 0) :]


def _younger(entries: tuple[Entry, ...], oldest_ms: int) -> tuple[Entry, ...]:
    if not entries or entries[0].event_time_ms > oldest_ms:
        return entries
    return tuple(entry for entry in entries if entry.event_time_ms > oldest_ms)
