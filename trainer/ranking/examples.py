"""Define what the ranker learns from: a shown video, its features and whether it was watched."""

from collections.abc import Callable

import msgspec

from contract.wire.events import FLOAT32_BYTES, Impressions, RankingLog


class LoggedFeatures(msgspec.Struct, frozen=True, array_like=True):
    """The features of some videos for one user at one time, as in `RankingLog`."""

    feature_version: int
    generation: int
    video_ids: list[str]
    context: bytes
    user_vector: bytes
    candidates: bytes
    history: bytes = b""
    history_completed: bytes = b""

    def row(self, video_id: str) -> bytes | None:
        """Return the features of *video_id*, None if it is not among the videos."""
        if video_id not in self.video_ids:
            return None
        size = len(self.candidates) // len(self.video_ids)
        start = self.video_ids.index(video_id) * size
        return self.candidates[start : start + size]


OwnFeatures = Callable[[Impressions], LoggedFeatures | None]
"""Computes the features of impressions that no ranking log can have; None where it cannot."""


class RankingExample(msgspec.Struct, frozen=True, array_like=True):
    """One shown video: the features it was or would have been ranked by, and the label.

    Features are little-endian float32, the history is as in `RankingLog`. *is_late*: the same
    impression was learned as not watched before, and this watch came afterwards. *watch_ms* of a
    video that does not count as watched may be above 0; *duration_ms* is 0 where it is not known.
    """

    user_id: str
    video_id: str
    impression_key: bytes
    event_time_ms: int
    position: int
    is_watched: bool
    is_late: bool
    watch_ms: int
    duration_ms: int
    feature_version: int
    generation: int
    context: bytes
    user_vector: bytes
    candidate: bytes
    history: bytes = b""
    history_completed: bytes = b""


def features_of(log: RankingLog) -> LoggedFeatures:
    """Return the features in *log*, without the user that they are of."""
    return LoggedFeatures(
        log.feature_version,
        log.generation,
        log.video_ids,
        log.context,
        log.user_vector,
        log.candidates,
        log.history,
        log.history_completed,
    )


def num_floats(values: bytes) -> int:
    """Return how many float32 values *values* has."""
    return len(values) // FLOAT32_BYTES
