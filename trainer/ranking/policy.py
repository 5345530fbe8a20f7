"""Define what counts as watched, and how long the joiner waits and remembers."""

from dataclasses import dataclass

from models.features.examples import MAX_SKIP_SHARE
from models.history.window import DAY_MS


@dataclass(frozen=True, slots=True)
class JoinPolicy:
    """What counts as watched, and how long is waited and remembered.

    *min_positive_watch_ms* is by default what `CompletionRule` calls no skip: two seconds, or a
    fifth of a video that is shorter than ten.
    """

    label_window_ms: int = 600_000
    keep_ms: int = DAY_MS
    max_entries: int = 1_000_000
    min_positive_watch_ms: int = 2_000
    idle_ms: int = 10_000

    def __post_init__(self) -> None:
        for name, value, least in (
            ("label_window_ms", self.label_window_ms, 1),
            ("keep_ms", self.keep_ms, 2 * self.label_window_ms),
            ("max_entries", self.max_entries, 1),
            ("min_positive_watch_ms", self.min_positive_watch_ms, 1),
            ("idle_ms", self.idle_ms, 0),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")

    def is_positive(self, watch_ms: int, duration_ms: int) -> bool:
        """Return whether *watch_ms* of *duration_ms*, 0 where unknown, counts as watched."""
        least = self.min_positive_watch_ms
        if duration_ms:
            least = min(least, max(1, int(duration_ms * MAX_SKIP_SHARE)))
        return watch_ms >= least
