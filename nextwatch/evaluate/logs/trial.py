"""Define the layout of a log for a trial: exposures, histories, and which are tested.

Videos are columns: video *n* is ``uploads[n]``, column *n* of every score matrix. The events
that windows are folded from are real ones of the contract, so a window of a trial is what
serving would hold.

What is known of a user before the log has no times of its own. Its watches get made-up ones:
evenly spaced and ending at the user's last known time (`LoggedHistory.times_ms`). A completed one
lasts as long as its video (the median long view of KuaiRand, 25-30 April, lasts 96 % of it),
another one 2.8 seconds (`assumed_watch_ms`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from contract.wire.events import Context, ImpressedVideo, Impressions, VideoUpload, Watch
from nextwatch.datasets.kuairand_past import assumed_watch_ms, evenly
from nextwatch.datasets.log import Bools, Ints

UNKNOWN_DURATION_MS = 60_000
"""For videos of which the log knows none (picture posts): with it, the completion rule says of
all 1,665 such exposures of KuaiRand, 25-30 April, what the log's own flag says."""

_HISTORY_IDS, _IMPRESSION_IDS = 1 << 96, 1 << 97


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedHistory:
    """The watches of a user before the log: columns, oldest first.

    ``completed`` may reach further back than ``columns``: the last completed watches of all.
    ``first_ms`` and ``last_ms`` bound the times that the single watches are given.
    """

    user_id: str
    columns: Sequence[int]
    is_completed: Sequence[bool]
    completed: Sequence[int]
    first_ms: int
    last_ms: int

    def times_ms(self) -> list[int]:
        """Return a time for each of ``columns``, evenly spaced, the last one at ``last_ms``."""
        return evenly(len(self.columns), self.first_ms, self.last_ms)

    def watches(self, uploads: Sequence[VideoUpload]) -> list[Watch]:
        """Return the watches of ``columns`` as events, oldest first."""
        rows = zip(self.columns, self.times_ms(), self.is_completed, strict=True)
        return [
            Watch(
                event_id=str(UUID(int=place)),
                user_id=self.user_id,
                video_id=uploads[column].video_id,
                event_time_ms=time_ms,
                watch_ms=assumed_watch_ms(uploads[column].duration_ms, is_completed=is_completed),
                duration_ms=uploads[column].duration_ms,
            )
            for place, (column, time_ms, is_completed) in enumerate(rows)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLog:
    """Exposures in the order of time, and which of them are tests.

    All columns have one entry per exposure. ``period`` names what results are told by beside
    the whole (a day, a year); only completed first exposures where ``is_tested`` are ranked.
    """

    name: str
    uploads: Sequence[VideoUpload]
    histories: Sequence[LoggedHistory]
    user_id: Sequence[str]
    column: Ints
    time_ms: Ints
    watch_ms: Ints
    duration_ms: Ints
    surface: Ints
    is_completed: Bools
    is_tested: Bools
    period: Sequence[str] = field(repr=False)

    def __len__(self) -> int:
        return len(self.column)

    def watch(self, row: int) -> Watch | None:
        """Return the watch of exposure *row*; None if nothing was played."""
        if self.watch_ms[row] <= 0:
            return None
        duration_ms = int(self.duration_ms[row])
        return Watch(
            event_id=str(UUID(int=_HISTORY_IDS + row)),
            user_id=self.user_id[row],
            video_id=self.uploads[self.column[row]].video_id,
            event_time_ms=int(self.time_ms[row]),
            watch_ms=min(int(self.watch_ms[row]), duration_ms),
            duration_ms=duration_ms,
            context=surface_context(int(self.surface[row])),
        )

    def impressions(self, row: int) -> Impressions:
        """Return the event that says that the video of exposure *row* was shown."""
        video_id = self.uploads[self.column[row]].video_id
        return Impressions(
            event_id=str(UUID(int=_IMPRESSION_IDS + row)),
            user_id=self.user_id[row],
            event_time_ms=int(self.time_ms[row]),
            videos=[ImpressedVideo(video_id=video_id, position=0)],
        )


def surface_context(surface: int) -> Context:
    """Return the context of a request on *surface*, a tab of the log; -1 is unknown."""
    return Context(surface=f"tab:{surface}") if surface >= 0 else Context()
