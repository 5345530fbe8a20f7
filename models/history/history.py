"""Keep a rolling watch history: the newest events of one user, oldest first.

A window is a pure function of the *set* of events: the newest watch of each video, by (event
time, event id), bounded by the count of videos and by age, each event id once. Age is measured
from the newest event in the window, never from the wall clock. `merge` is therefore commutative,
associative and idempotent, and whatever at-least-once delivery does to the order or the number of
the events, the window comes out the same, byte for byte.

Repeats take no place from other videos: a user who plays one video fifty times still has the
others in the window. Those among the newest watches of all are kept beside, so that each video has
a count (`Window.counts`) that repeated delivery does not change.

When two events share an id, the greater (time, then content) wins: the only choice that
does not depend on which came first. (An id that a sender uses for several videos is recognised only
while the window holds both.)

Impressions are kept beside, for a rule that follows ranking (`streams.serving.shown`). No tower
reads them and they age nothing else, so a window is the same to the models with and without them.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from contract.wire.events import Context, Impressions, Search, UserDeletion, Watch
from models.history.window import (
    DAY_MS,
    EMPTY,
    HOUR_MS,
    MAX_SHOWN_VIDEOS,
    ContextEntry,
    Entry,
    ImpressionEntry,
    SearchEntry,
    WatchEntry,
    Window,
    by_video,
    context_entries,
    entered,
    impression_entry,
    last,
    search_entry,
    until,
    watch_entry,
    with_repeats_apart,
)

__all__ = [
    "DAY_MS",
    "EMPTY",
    "HOUR_MS",
    "MAX_SHOWN_VIDEOS",
    "ContextEntry",
    "Entry",
    "Happened",
    "ImpressionEntry",
    "SearchEntry",
    "WatchEntry",
    "Window",
    "WindowPolicy",
    "entered",
    "fold",
    "merge",
    "until",
    "with_context",
    "with_repeats_apart",
]

_CONTEXT_FIELDS = Context.__struct_fields__


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """The bounds of a window; they keep its record below 96 KiB.

    ``max_watches`` counts distinct videos.
    """

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
    all_watches = one.watches + other.watches + one.repeats + other.repeats
    watches, repeats = by_video(_distinct(all_watches, erased_before_ms), policy.max_watches)
    searches = _newest(one.searches + other.searches, policy.max_searches, erased_before_ms)
    contexts = [entry for entry in (one.context, other.context) if entry is not None]
    last_contexts = _newest(tuple(contexts), 1, erased_before_ms)
    shown = one.impressions + other.impressions
    impressions = _newest(shown, policy.max_impressions, erased_before_ms) if shown else ()
    merged = Window(watches, searches, None, erased_before_ms, impressions)  # for its times
    oldest_ms = merged.newest_ms - policy.max_age_ms
    return Window(
        _younger(watches, oldest_ms),
        _younger(searches, oldest_ms),
        next(iter(_younger(last_contexts, oldest_ms)), None),
        erased_before_ms,
        _younger(impressions, merged.newest_shown_ms - policy.max_age_ms),
        _younger(repeats, oldest_ms),
    )


def with_context(window: Window, given: Context) -> Window:
    """Return *window* with the context *given*; fields that it leaves empty stay as they were."""
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
                watches.append(watch_entry(event))
                contexts += context_entries(event)
            case Search():
                searches.append(search_entry(event))
            case Impressions():
                impressions.append(impression_entry(event))
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
    entry, contexts = watch_entry(event), context_entries(event)
    oldest_ms = max(entry.event_time_ms - policy.max_age_ms, window.erased_before_ms)
    oldest_shown_ms = max(entry.event_time_ms, window.newest_shown_ms) - policy.max_age_ms
    is_newest = entry.event_time_ms > window.newest_ms
    all_stay = all(
        first.event_time_ms > oldest_ms
        for first in (
            *(window.watches[:1] + window.repeats[:1]),
            *window.searches[:1],
            window.context,
        )
        if first is not None
    ) and all(first.event_time_ms > oldest_shown_ms for first in window.impressions[:1])
    is_known = entry.event_id in [known.event_id for known in (*window.watches, *window.repeats)]
    if not is_newest or not all_stay or is_known or entry.event_time_ms <= oldest_ms:
        return None
    watches, repeats = _with_newest(window, entry, policy.max_watches)
    return Window(
        watches,
        window.searches[-policy.max_searches :],
        contexts[0] if contexts else window.context,
        window.erased_before_ms,
        last(window.impressions, policy.max_impressions),
        repeats,
    )


def _with_newest(
    window: Window, entry: WatchEntry, most: int
) -> tuple[tuple[WatchEntry, ...], tuple[WatchEntry, ...]]:
    """Return watches and repeats after *entry*, which is newer than all: as `by_video` would."""
    known, repeats = window.watches, list(window.repeats)
    videos = [watch.video_id for watch in known]
    if entry.video_id in videos:
        place = videos.index(entry.video_id)
        insort(repeats, known[place])
        known = known[:place] + known[place + 1 :]
    watches = last((*known, entry), most)
    num_gone = 0
    for place, repeat in enumerate(repeats):  # is it among the newest of all?
        num_newer = len(repeats) - place + len(watches) - bisect_left(watches, repeat)
        if num_newer <= most:
            break
        num_gone += 1
    return watches, tuple(repeats[num_gone:])


def _with_impression(window: Window, event: Impressions, policy: WindowPolicy) -> Window | None:
    entry = impression_entry(event)
    oldest_ms = max(entry.event_time_ms, window.newest_shown_ms) - policy.max_age_ms
    is_newest = all(entry > newest for newest in window.impressions[-1:])
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
        last((*window.impressions, entry), policy.max_impressions),
        window.repeats,
    )


def _newest(entries: tuple[Entry, ...], most: int, erased_before_ms: int) -> tuple[Entry, ...]:
    return last(_distinct(entries, erased_before_ms), most)


def _distinct(entries: tuple[Entry, ...], erased_before_ms: int) -> tuple[Entry, ...]:
    """Return what was not erased of *entries*, sorted, of each event id the greatest."""
    by_id: dict[bytes, Entry] = {}
    for entry in entries:
        known = by_id.get(entry.event_id)
        if entry.event_time_ms > erased_before_ms and (known is None or entry > known):
            by_id[entry.event_id] = entry
    return tuple(sorted(by_id.values()))


def _younger(entries: tuple[Entry, ...], oldest_ms: int) -> tuple[Entry, ...]:
    if not entries or entries[0].event_time_ms > oldest_ms:
        return entries
    return tuple(entry for entry in entries if entry.event_time_ms > oldest_ms)
