"""Count what a source has sent, for the last line of its output."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from contract.wire.events import Event, Impressions, Search, VideoUpload, Watch


@dataclass(slots=True)
class Totals:
    """Counts of one run. Watches and searches are the events that get a recommendation each."""

    watches: int = 0
    searches: int = 0
    impressions: int = 0
    uploads: int = 0
    windows: int = 0
    acknowledged: int = 0
    seconds: float = 0.0
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def events(self) -> int:
        """Watches and searches together, which a rate counts."""
        return self.watches + self.searches

    @property
    def records(self) -> int:
        """The number of records passed to the client of the broker."""
        return self.events + self.impressions + self.uploads + self.windows

    def count(self, event: Event) -> None:
        """Count one *event* that was sent."""
        match event:
            case Watch():
                self.watches += 1
            case Search():
                self.searches += 1
            case Impressions():
                self.impressions += 1
            case VideoUpload():
                self.uploads += 1
            case _:
                raise ValueError(f"sources send no {type(event).__name__}")

    @contextmanager
    def timed(self) -> Iterator[float]:
        """Yield the start on the monotonic clock; set `seconds` at the end, also after an error."""
        started_s = monotonic()
        try:
            yield started_s
        finally:
            self.seconds = monotonic() - started_s

    def as_dict(self) -> dict[str, Any]:
        """Return the totals as the JSON object that ``--json`` prints."""
        return {
            "events": self.events,
            "watches": self.watches,
            "searches": self.searches,
            "impressions": self.impressions,
            "uploads": self.uploads,
            "windows": self.windows,
            "acknowledged": self.acknowledged,
            "skipped": sum(self.skipped.values()),
            "skipped_by_reason": {k: v for k, v in sorted(self.skipped.items()) if v},
            "seconds": round(self.seconds, 3),
            "events_per_s": round(self.events / self.seconds, 1) if self.seconds else 0.0,
        }
