"""Give the watches of all users as numbers, user by user, for counting and for pairs.

A block holds whole users, the watches of each oldest first. Skips, and plays of no time, are not
in it. Videos and countries are numbered as they come.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np
from jaxtyping import Int64

from models.features.examples import CompletionRule
from models.history.history import WatchEntry, Window
from nextwatch.batch.progress import Tell
from nextwatch.batch.users import Users
from nextwatch.datasets.log import ExposureLog

# Shape legend: W = watches of a block.

_USERS_IN_BLOCK = 2_000
_WATCHES_IN_BLOCK = 100_000
NO_COUNTRY = 0


@dataclass(frozen=True, slots=True)
class WatchBlock:
    """The watches of some users: by user, then by time."""

    user_W: Int64[np.ndarray, "W"]
    video_W: Int64[np.ndarray, "W"]
    time_ms_W: Int64[np.ndarray, "W"]
    country_W: Int64[np.ndarray, "W"]

    def __len__(self) -> int:
        return len(self.user_W)

    def where(self, is_kept_W: np.ndarray | slice) -> "WatchBlock":
        """Return the watches for which *is_kept_W* is true, or that the slice has."""
        columns = (self.user_W, self.video_W, self.time_ms_W, self.country_W)
        return WatchBlock(*(column[is_kept_W] for column in columns))


@dataclass(slots=True)
class Names:
    """Numbers for names, from 0 on, in the order in which they come."""

    number_of: dict[str, int] = field(default_factory=dict)

    def number(self, name: str) -> int:
        """Return the number of *name*, a new one if it is new."""
        return self.number_of.setdefault(name, len(self.number_of))

    def __len__(self) -> int:
        return len(self.number_of)

    @property
    def names(self) -> list[str]:
        """All names by their numbers."""
        return list(self.number_of)


class Watched(Protocol):
    """The watches of all users, block by block; the names are complete when all are read."""

    @property
    def videos(self) -> Names:
        """The videos of all watches."""
        ...

    @property
    def countries(self) -> Names:
        """The countries of all watches."""
        ...

    def blocks(self) -> Iterator[WatchBlock]:
        """Yield all watches."""
        ...


class WatchedInWindows:
    """The watches that are in windows: of each user the newest."""

    def __init__(self, users: Users, rule: CompletionRule) -> None:
        self._users = users
        self._rule = rule
        self.videos = Names()
        self.countries = Names({"": NO_COUNTRY})

    def blocks(self) -> Iterator[WatchBlock]:
        """Yield all watches."""
        users = enumerate(window for _, window in self._users.scan())
        while some := list(islice(users, _USERS_IN_BLOCK)):
            yield self._block(some)

    def _block(self, users: Sequence[tuple[int, Window]]) -> WatchBlock:
        rows = [
            (user, self.videos.number(watch.video_id), watch.event_time_ms, country)
            for user, window in users
            for country in [self.countries.number(window.context.country if window.context else "")]
            for watch in sorted((*window.watches, *window.repeats))
            if self._is_counted(watch)
        ]
        table = np.array(rows, np.int64).reshape(-1, 4)
        return WatchBlock(*table.T)

    def _is_counted(self, watch: WatchEntry) -> bool:
        is_skipped = self._rule.is_skipped(watch.watch_ms, watch.duration_ms)
        return watch.watch_ms > 0 and not is_skipped


class WatchedInLog:
    """The watches of a log, all of them; it knows no countries."""

    def __init__(self, log: ExposureLog, rule: CompletionRule) -> None:
        order = np.lexsort((log.time_ms, log.user))
        is_skipped = rule.are_skipped(log.watch_ms, log.duration_ms)
        rows = order[(log.watch_ms > 0)[order] & ~is_skipped[order]]
        numbers, video = np.unique(log.video[rows], return_inverse=True)
        self.videos = Names()
        for number in numbers.tolist():
            self.videos.number(f"{log.video_prefix}{number}")
        self.countries = Names({"": NO_COUNTRY})
        self._all = WatchBlock(
            log.user[rows], video, log.time_ms[rows], np.zeros(len(rows), np.int64)
        )

    def blocks(self) -> Iterator[WatchBlock]:
        """Yield all watches."""
        user_W = self._all.user_W
        start = 0
        while start < len(user_W):
            about = min(start + _WATCHES_IN_BLOCK, len(user_W)) - 1
            end = int(np.searchsorted(user_W, user_W[about], side="right"))
            yield self._all.where(slice(start, end))
            start = end


@dataclass(frozen=True, slots=True)
class WatchedUntil:
    """The watches of *whole* before *end_ms*; for figures on what came afterwards."""

    whole: Watched
    end_ms: int

    @property
    def videos(self) -> Names:
        """The videos of all watches."""
        return self.whole.videos

    @property
    def countries(self) -> Names:
        """The countries of all watches."""
        return self.whole.countries

    def blocks(self) -> Iterator[WatchBlock]:
        """Yield the watches before the end."""
        for block in self.whole.blocks():
            yield block.where(block.time_ms_W < self.end_ms)


@dataclass(frozen=True, slots=True)
class ToldWatched:
    """The watches of *whole*; *tell* learns how many were given."""

    whole: Watched
    tell: Tell

    @property
    def videos(self) -> Names:
        """The videos of all watches."""
        return self.whole.videos

    @property
    def countries(self) -> Names:
        """The countries of all watches."""
        return self.whole.countries

    def blocks(self) -> Iterator[WatchBlock]:
        """Yield all watches."""
        num_given = 0
        for block in self.whole.blocks():
            num_given += len(block)
            self.tell(num_given, 0)
            yield block
