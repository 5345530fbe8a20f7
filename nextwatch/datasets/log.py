"""Hold a log of exposures in numpy columns, and turn its rows into events.

Rows that cannot be told as events of the contract are counted by reason and left out before
anything is sent. Event ids are derived from the source and the row, so a log replayed twice
says the same twice.

The watch of a row bears the time of its exposure, as its impression does. It ended later,
but by an end that the log does not give (a player pauses), and in the order of exposures
every window holds what the platform knew when it showed the video.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from numpy.typing import NDArray

from contract.wire.events import (
    MAX_DURATION_MS,
    MAX_TIME_MS,
    MIN_TIME_MS,
    Context,
    Event,
    ImpressedVideo,
    Impressions,
    VideoUpload,
    Watch,
)

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureLog:
    """Exposures by time, oldest first, and the videos they are of.

    All columns have one entry per kept row; ``row`` is its number in the log as it was read,
    ``surface`` is -1 and ``watch_ms`` 0 where there was none. With ``has_impressions`` every row
    was shown in a slot of its own; without, the log tells of watches only.
    """

    source: str
    uploads: Sequence[VideoUpload]
    video_prefix: str
    has_impressions: bool
    row: Ints
    user: Ints
    video: Ints
    time_ms: Ints
    watch_ms: Ints
    duration_ms: Ints
    surface: Ints
    skipped: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.row)

    def video_id(self, index: int) -> str:
        """Return the id of the video that was exposed at *index*."""
        return f"{self.video_prefix}{self.video[index]}"

    def events(self, index: int) -> list[Event]:
        """Return what happened at *index*: the impression, then the watch, where there were any."""
        happened: list[Event] = []
        if self.has_impressions:
            happened.append(self._impressions(index))
        if self.watch_ms[index] > 0:
            happened.append(self._watch(index))
        return happened

    def _impressions(self, index: int) -> Impressions:
        return Impressions(
            event_id=self._event_id("impressions", index),
            user_id=f"u{self.user[index]}",
            event_time_ms=int(self.time_ms[index]),
            videos=[ImpressedVideo(video_id=self.video_id(index), position=0)],
        )

    def _watch(self, index: int) -> Watch:
        surface = int(self.surface[index])
        return Watch(
            event_id=self._event_id("watch", index),
            user_id=f"u{self.user[index]}",
            video_id=self.video_id(index),
            event_time_ms=int(self.time_ms[index]),
            watch_ms=int(self.watch_ms[index]),
            duration_ms=int(self.duration_ms[index]),
            context=Context(surface=f"tab:{surface}") if surface >= 0 else Context(),
        )

    def _event_id(self, kind: str, index: int) -> str:
        return str(uuid5(NAMESPACE_URL, f"nextwatch:{self.source}:{kind}:{self.row[index]}"))


def sift(  # noqa: PLR0913 - one argument a column
    *,
    source: str,
    uploads: Sequence[VideoUpload],
    video_prefix: str,
    has_impressions: bool,
    user: Ints,
    video: Ints,
    time_ms: Ints,
    watch_ms: Ints,
    duration_ms: Ints,
    surface: Ints | None = None,
    skipped: Mapping[str, int] | None = None,
) -> ExposureLog:
    """Return the rows that the contract can express, in the order of time; count the others.

    The sort is stable: rows of one instant stay in the order of the log. No watch is longer
    than its video: players loop, and the contract counts one viewing.
    """
    order = np.argsort(time_ms, kind="stable")
    kept, reasons = _judge(user[order], video[order], time_ms[order], duration_ms[order])
    row = order[kept]
    bounded_ms = np.clip(watch_ms[row], 0, duration_ms[row])
    return ExposureLog(
        source=source,
        uploads=uploads,
        video_prefix=video_prefix,
        has_impressions=has_impressions,
        row=row,
        user=user[row],
        video=video[row],
        time_ms=time_ms[row],
        watch_ms=bounded_ms,
        duration_ms=duration_ms[row],
        surface=np.full(len(row), -1) if surface is None else surface[row],
        skipped=Counter(skipped or {}) + reasons,
    )


def _judge(user: Ints, video: Ints, time_ms: Ints, duration_ms: Ints) -> tuple[Bools, Counter[str]]:
    verdicts = {
        "row:bad_id": (user < 0) | (video < 0),
        "row:bad_time": (time_ms < MIN_TIME_MS) | (time_ms > MAX_TIME_MS),
        "row:bad_duration": (duration_ms < 1) | (duration_ms > MAX_DURATION_MS),
        "row:repeated": _repeats(user, video, time_ms),
    }
    kept = np.ones(len(user), dtype=np.bool_)
    reasons: Counter[str] = Counter()
    for reason, refused in verdicts.items():
        reasons[reason] = int(np.count_nonzero(kept & refused))
        kept &= ~refused
    return kept, reasons


def _repeats(user: Ints, video: Ints, time_ms: Ints) -> Bools:
    """Nobody is shown one video twice at one instant: the log has written it twice."""
    repeats = np.zeros(len(user), dtype=np.bool_)
    repeats[1:] = (
        (user[1:] == user[:-1]) & (video[1:] == video[:-1]) & (time_ms[1:] == time_ms[:-1])
    )
    return repeats
