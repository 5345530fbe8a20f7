"""Replay a timeline into a feed until its end, a limit, a time or a signal."""

import math
from dataclasses import dataclass
from time import monotonic

from contract.wire.events import Search, Watch
from nextwatch.sources.feed import EventFeed
from nextwatch.sources.pacing import Pace
from nextwatch.sources.progress import Tell
from nextwatch.sources.timeline import Moment, Timeline


@dataclass(frozen=True, slots=True)
class End:
    """The limits of a source: a number of watches and searches, or of seconds."""

    events: int | None = None
    seconds: float | None = None

    @property
    def is_given(self) -> bool:
        """Whether there is a limit."""
        return self.events is not None or self.seconds is not None

    @property
    def after_s(self) -> float:
        """The longest time that the source runs."""
        return math.inf if self.seconds is None else self.seconds

    def share(self, *, events: int, passed_s: float) -> float:
        """Return the share of the nearer limit that is reached, 1 at the end."""
        by_events = events / self.events if self.events else 0.0
        by_seconds = passed_s / self.seconds if self.seconds else 0.0
        return max(by_events, by_seconds)


def replay(timeline: Timeline, feed: EventFeed, pace: Pace, *, end: End, tell: Tell) -> None:
    """Send *timeline* at *pace* until its *end*, and wait for the acknowledgements.

    Raises:
        BrokerUnavailable: something was not acknowledged.
    """
    with feed.totals.timed() as started_s:
        for moment in timeline:
            due_s = pace.due_s(
                moment.event_time_ms, rides_along=not _is_paced(moment), now_s=monotonic()
            )
            feed.wait_until(min(due_s, started_s + end.after_s))
            passed_s = monotonic() - started_s
            if feed.stop.is_set() or passed_s >= end.after_s:
                break
            for event in moment.events:
                feed.send(event)
            share = end.share(events=feed.totals.events, passed_s=passed_s)
            tell(max(moment.done, share), feed.totals)
            if share >= 1:
                break
    feed.flush()


def _is_paced(moment: Moment) -> bool:
    return any(isinstance(event, Watch | Search) for event in moment.events)
