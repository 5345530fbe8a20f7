"""Tell when the traffic is not what people make: one user, one video, or another time.

Each measure is a share of the newest `NUM_RECENT` plays, and is compared with a bound and with what
it has been before, since a small service lives with few users and few videos:

* the plays of the user who has most of them;
* the plays of the video that users without a history play most;
* the plays whose event time is more than `LATE_MS` before the record came.

Watches that were delivered before change nothing. When there are many of them that is told as a
notice, and is no reason to go back.
"""

from collections import Counter, deque
from dataclasses import dataclass, field

NUM_RECENT = 1_000
LATE_MS = 3_600_000
SHORT_HISTORY = 3
"""A user with fewer watches than this has no history."""
BOUNDS = {"user": 0.10, "video": 0.15, "late": 0.25}
TIMES_BEFORE = 3.0
"""A share also has to be so many times what it was before."""
WARM_UP = 3
"""So many times `NUM_RECENT` plays tell what is usual."""
MAX_REPEATED = 0.3
_CHECK_EVERY = 50
_FORGET = 0.1
_WORDS = {
    "user": "one user has {share:.0%} of the plays",
    "video": "{share:.0%} of the plays are of one video, by users without a history",
    "late": "{share:.0%} of the plays are dated more than an hour before they came",
}


@dataclass(slots=True)
class _Play:
    user_id: str
    video_id: str
    """Empty for a user with a history."""
    is_late: bool


@dataclass(slots=True)
class TrafficMonitor:
    """The newest plays, and what their shares usually are."""

    num_recent: int = NUM_RECENT
    num_plays: int = 0
    reason: str | None = None
    """Why the traffic is not to be trusted; None while it is."""
    usual: dict[str, float] = field(default_factory=dict)
    _plays: deque[_Play] = field(default_factory=deque)
    _users: Counter[str] = field(default_factory=Counter)
    _videos: Counter[str] = field(default_factory=Counter)
    _num_late: int = 0
    _repeated: float = 0.0

    def note(self, user_id: str, video_id: str, *, num_watches: int, lag_ms: int) -> None:
        """Count one play by a user with *num_watches* before, that came *lag_ms* after its time."""
        play = _Play(user_id, video_id if num_watches < SHORT_HISTORY else "", lag_ms > LATE_MS)
        self._plays.append(play)
        self._count(play, 1)
        if len(self._plays) > self.num_recent:
            self._count(self._plays.popleft(), -1)
        self.num_plays += 1
        if self.num_plays % _CHECK_EVERY == 0 and len(self._plays) == self.num_recent:
            self._check()

    def note_delivery(self, *, is_repeated: bool) -> None:
        """Count one watch, delivered for the first time or again."""
        self._repeated += (float(is_repeated) - self._repeated) / self.num_recent

    @property
    def notice(self) -> str | None:
        """What is strange about the traffic and does no harm; None if nothing is."""
        if self._repeated <= MAX_REPEATED:
            return None
        return f"{self._repeated:.0%} of the watches were delivered before"

    def forget(self, user_id: str) -> None:
        """Erase a user from the newest plays."""
        for play in self._plays:
            if play.user_id == user_id:
                self._users[user_id] -= 1
                self._users[""] += 1
                play.user_id = ""
        self._users += Counter()

    def _count(self, play: _Play, step: int) -> None:
        for counter, key in ((self._users, play.user_id), (self._videos, play.video_id)):
            counter[key] += step
            if not counter[key]:
                del counter[key]
        self._num_late += step * play.is_late

    def _check(self) -> None:
        shares = {
            "user": _most(self._users) / self.num_recent,
            "video": _most(self._videos) / self.num_recent,
            "late": self._num_late / self.num_recent,
        }
        is_warm = self.num_plays > WARM_UP * self.num_recent
        wrong = [
            _WORDS[name].format(share=share)
            for name, share in shares.items()
            if share > BOUNDS[name] and share > TIMES_BEFORE * self.usual.get(name, 0.0)
        ]
        self.reason = "; ".join(wrong) if wrong and is_warm else None
        if self.reason is None and self.num_plays % self.num_recent == 0:
            for name, share in shares.items():
                before = self.usual.get(name, share)
                self.usual[name] = before + _FORGET * (share - before)


def _most(counts: Counter[str]) -> int:
    return max((count for key, count in counts.items() if key), default=0)
