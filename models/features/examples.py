"""Define training examples: a user's window, and the video completed next.

The label is always the *next* watch, never a random one held out of the middle: a window
that has seen the future predicts it (Covington et al. 2016, section 3.4 and figure 5).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Integer

from models.history.history import Window

USUAL_DURATION_MS = 60_000
"""Stands for an unknown duration where a number is needed: its logarithm in minutes is 0."""


class Example(NamedTuple):
    """One training example: the window before a watch, and the watched video."""

    user_id: str
    window: Window
    video_id: str
    event_time_ms: int


MAX_SKIP_SHARE = 0.2
"""Who watched more of a video than this has not skipped it, however short it is."""


@dataclass(frozen=True, slots=True)
class CompletionRule:
    """Decides when a watch counts as completed, and when as a skip.

    Completed: *min_watch_ms* watched, or the whole of a shorter video. The default is how the
    short-video platform of KuaiRand defines a long view (Gao et al., CIKM 2022): 18 seconds, or to
    the end. Where the duration is not known, as of a live stream, only *min_watch_ms* counts, and
    nothing is a skip. A skip: less than *max_skip_ms* and less than `MAX_SKIP_SHARE` of the video;
    0 for no skips.
    """

    min_watch_ms: int = 18_000
    max_skip_ms: int = 2_000

    def is_completed(self, watch_ms: int, duration_ms: int) -> bool:
        """Return whether *watch_ms* of *duration_ms* is a completed watch."""
        return watch_ms >= (min(self.min_watch_ms, duration_ms) or self.min_watch_ms)

    def are_completed(
        self, watch_ms: Integer[np.ndarray, "n"], duration_ms: Integer[np.ndarray, "n"]
    ) -> Bool[np.ndarray, "n"]:
        """Return `is_completed` of each watch."""
        least = np.minimum(self.min_watch_ms, duration_ms)
        is_completed: np.ndarray = watch_ms >= np.where(least == 0, self.min_watch_ms, least)
        return is_completed

    def is_skipped(self, watch_ms: int, duration_ms: int) -> bool:
        """Return whether *watch_ms* of *duration_ms* is a skip."""
        return watch_ms < min(self.max_skip_ms, self.min_watch_ms, duration_ms * MAX_SKIP_SHARE)

    def are_skipped(
        self, watch_ms: Integer[np.ndarray, "n"], duration_ms: Integer[np.ndarray, "n"]
    ) -> Bool[np.ndarray, "n"]:
        """Return `is_skipped` of each watch."""
        most = min(self.max_skip_ms, self.min_watch_ms)
        is_skipped: np.ndarray = watch_ms < np.minimum(most, duration_ms * MAX_SKIP_SHARE)
        return is_skipped


def cap_per_user(user_ids: Sequence[str], most: int) -> list[int]:
    """Return the places of the *most* newest examples of each user, in their order.

    A fixed number of examples per user keeps few heavy watchers from owning the loss
    (Covington et al. 2016, section 3.4).

    Raises:
        ValueError: *most* is below 1.
    """
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    counts: dict[str, int] = {}
    kept: list[int] = []
    for place in reversed(range(len(user_ids))):
        user_id = user_ids[place]
        counts[user_id] = counts.get(user_id, 0) + 1
        if counts[user_id] <= most:
            kept.append(place)
    return kept[::-1]
