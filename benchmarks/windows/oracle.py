"""Compute what the history windows must be, twice: independently, and to the byte.

`expected` shares no code with the worker nor with its models: the newest of a set, by time and id,
and of each video the newest watch. `undisturbed` is the fault-free run: every event folded once, in
the order it was made, and written as the worker writes. Neither knows of batches, partitions,
offsets or deliveries. Everything that checks windows uses this module: the fault rounds, the
outages, the comparison with other frameworks and the end-to-end tests.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import NamedTuple, TypeVar

from contract.wire.events import Search, Watch
from models.history import codec as history_codec
from models.history.history import EMPTY, WatchEntry, Window, WindowPolicy, fold

NUM_WATCHES = 50
NUM_SEARCHES = 20

Watched = TypeVar("Watched", bound=tuple[int, str, str, *tuple[int, ...]])
"""Event time, event id and video of a watch; what else there is of it follows."""


class Drawn(NamedTuple):
    """A window as plain values: (time, id, what) of each entry, oldest first.

    ``watches`` has repeats, too: an earlier watch of a video that is lost is lost.
    """

    watches: list[tuple[int, str, str]]
    searches: list[tuple[int, str, str]]
    country: str | None


def expected(events: Iterable[Watch | Search]) -> dict[str, Drawn]:
    """Return the window of each user from the set of *events* alone."""
    watches, searches, countries = defaultdict(set), defaultdict(set), defaultdict(set)
    users = set()
    for event in events:
        users.add(event.user_id)
        at = (event.event_time_ms, event.event_id.replace("-", ""))
        if isinstance(event, Search):
            searches[event.user_id].add((*at, event.query))
            continue
        watches[event.user_id].add((*at, event.video_id))
        if event.context.country:
            countries[event.user_id].add((*at, event.context.country))
    return {
        user: Drawn(
            newest_watches(watches[user]),
            sorted(searches[user])[-NUM_SEARCHES:],
            max(countries[user])[-1] if countries[user] else None,
        )
        for user in users
    }


def newest_watches(watched: Iterable[Watched]) -> list[Watched]:
    """Return the newest watch of the newest videos and the newest watches of all, oldest first."""
    in_order = sorted(set(watched))
    of_video = {entry[2]: entry for entry in in_order}
    return sorted({*sorted(of_video.values())[-NUM_WATCHES:], *in_order[-NUM_WATCHES:]})


def watches_in(window: Window) -> list[WatchEntry]:
    """Return every watch of *window*, earlier ones of the same video too, oldest first."""
    return sorted(window.watches + window.repeats)


def drawn(record: bytes) -> Drawn:
    """Return a window record as `expected` writes it; it shares only the codec with the worker."""
    window = history_codec.decode(record)
    return Drawn(
        [
            (entry.event_time_ms, entry.event_id.hex(), entry.video_id)
            for entry in watches_in(window)
        ],
        [(entry.event_time_ms, entry.event_id.hex(), entry.query) for entry in window.searches],
        window.context.country if window.context else None,
    )


def undisturbed(events: Iterable[Watch | Search], policy: WindowPolicy) -> dict[str, bytes]:
    """Return the record of each user after a run without faults, repeats and reordering."""
    by_user: dict[str, dict[str, Watch | Search]] = defaultdict(dict)
    for event in events:
        by_user[event.user_id][event.event_id] = event
    return {
        user: history_codec.encode(fold(EMPTY, mine.values(), policy))
        for user, mine in by_user.items()
    }


def num_lost(wanted: Mapping[str, Drawn], found: Mapping[str, Drawn]) -> int:
    """Return how many entries of the *wanted* windows are missing from those *found*."""
    nothing = Drawn([], [], None)
    lost = 0
    for user, window in wanted.items():
        mine = found.get(user, nothing)
        lost += len(set(window.watches) - set(mine.watches))
        lost += len(set(window.searches) - set(mine.searches))
    return lost


def num_twice(windows: Iterable[Drawn]) -> int:
    """Return how many entries stand in a window more often than once."""
    twice = 0
    for window in windows:
        for entries in (window.watches, window.searches):
            twice += len(entries) - len({event_id for _, event_id, _ in entries})
    return twice


def digest(records: Mapping[str, bytes]) -> str:
    """Return a hash over all windows."""
    total = blake2b(digest_size=16)
    for user, record in sorted(records.items()):
        total.update(f"{user} {len(record)} ".encode())
        total.update(record)
    return total.hexdigest()
