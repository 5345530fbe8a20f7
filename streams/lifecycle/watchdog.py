"""End a worker that makes no progress while records wait, so that another one takes over.

Consumers are known to stall alive: they hold their partitions, keep sending heartbeats and do
nothing. The watchdog looks from a thread of its own, because the event loop may be what stands
still. It asks the broker for no offsets, since that is one more thing to hang on: what waits is
what was fetched and not acknowledged, or what a fetch response said is there and was not fetched.

It judges each lane by itself, so that seven busy partitions do not hide an eighth that hangs.
An idle lane never ends a worker, however long nothing happens in it.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from enum import Enum
from threading import Event
from typing import NamedTuple

Monotonic = Callable[[], float]


class Membership(Enum):
    """The state of a worker in its group; the value says what it waits for."""

    JOINING = "waits for the group to assign partitions"
    RESTORING = "opens partitions and reads their changelog"
    SERVING = ""


class WatchedProgress(NamedTuple):
    """One thing that should move: while it *is_waiting*, its *mark* has to change."""

    mark: Hashable
    is_waiting: bool
    patience_s: float


@dataclass(frozen=True, slots=True)
class Reading:
    """How far one source partition is. All offsets mean "next"; None is not known yet."""

    acknowledged: int
    fetched: int | None = None
    position: int | None = None
    end: int | None = None
    num_answers: int | None = None
    has_leader: bool = True
    changelog: int = 0

    @property
    def is_behind(self) -> bool:
        """Whether a record waits: fetched and not acknowledged, or said to be there."""
        knows_end = self.position is not None and self.end is not None
        return self._has_unacknowledged or (knows_end and self.position < self.end)  # type: ignore[operator]

    @property
    def num_behind(self) -> int | None:
        """How many offsets are not acknowledged, 0 at the end; None while that is not known.

        At the end is a reader that has acknowledged all that there is to read: the last offsets
        may be marks of transactions.
        """
        if self.end is None:
            return None
        newest = max(self.end, self.fetched or 0)
        return max(1, newest - self.acknowledged) if self.is_behind else 0

    @property
    def _has_unacknowledged(self) -> bool:
        return self.fetched is not None and self.acknowledged < self.fetched

    def lane(self, patience_s: float) -> WatchedProgress:
        """Return the progress to watch: acknowledgements if the partition is behind, else fetches.

        A position short of the end counts, an acknowledgement short of it does not: the last
        offsets of a partition may be marks of transactions, which no consumer sees. While nobody
        leads the partition, only what was fetched already is waited for. Windows that are
        published count as a move: a whole store of them may have to be.
        """
        if self.is_behind:
            mark: Hashable = ("acknowledged", self.acknowledged, self.changelog)
        else:
            mark = ("answered", self.num_answers)
        is_waiting = self.has_leader or self._has_unacknowledged
        return WatchedProgress(mark, is_waiting=is_waiting, patience_s=patience_s)


Look = Callable[[], Mapping[str, WatchedProgress]]


@dataclass(slots=True)
class _Seen:
    """Since when a lane has its mark while waiting."""

    mark: Hashable
    since_s: float
    patience_s: float


class Watchdog:
    """Measures how long each lane has not moved; one thread looks, any may read `concern`."""

    def __init__(self, look: Look, *, monotonic: Monotonic) -> None:
        self._look = look
        self._monotonic = monotonic
        self._seen: dict[str, _Seen] = {}
        self.concern = ""
        """Which lane had used up half of its patience when last looked at."""

    def verdict(self) -> str:
        """Return which lane has used up its patience; empty while none has."""
        now_s, lanes = self._monotonic(), self._look()
        for name, lane in lanes.items():
            seen = self._seen.get(name)
            if seen is None or not lane.is_waiting or seen.mark != lane.mark:
                self._seen[name] = _Seen(lane.mark, now_s, lane.patience_s)
        self._seen = {name: seen for name, seen in self._seen.items() if name in lanes}
        self.concern = self._stillest(now_s, share=0.5)
        return self._stillest(now_s, share=1.0)

    def _stillest(self, now_s: float, *, share: float) -> str:
        for name, seen in self._seen.items():
            still_s = now_s - seen.since_s
            if still_s > share * seen.patience_s:
                return f"{name} stood still for {still_s:.1f} s"
        return ""


def guard(
    watchdog: Watchdog, *, every_s: float, stop: Event, on_stall: Callable[[str], None]
) -> None:
    """Look every *every_s* seconds until *stop* or a verdict, which *on_stall* is called with."""
    while not stop.wait(every_s):
        if reason := watchdog.verdict():
            on_stall(reason)
            return
