"""Give videos, channels and tags codes, and sum up the histories by them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from contract.wire.events import VideoUpload
from nextwatch.evaluate.ranking.contender import RankTraining
from nextwatch.evaluate.ranking.watch_time import NUM_CLASSES, duration_class

# Shape legend: N = videos, H = exposures of all histories, K = keys.

_TOPIC = "tag:"


@dataclass(frozen=True, slots=True)
class VideoCodes:
    """What is known of each video, as codes from 0."""

    channel_N: Int64[np.ndarray, "N"]
    category_N: Int64[np.ndarray, "N"]
    tag_N: Int64[np.ndarray, "N"]
    duration_class_N: Int64[np.ndarray, "N"]
    duration_ms_N: Int64[np.ndarray, "N"]
    num_channels: int
    num_categories: int
    num_tags: int
    num_duration_classes: int = NUM_CLASSES

    @classmethod
    def of(cls, uploads: Sequence[VideoUpload]) -> "VideoCodes":
        """Return the codes of *uploads*; of several topics the first counts."""
        channel_N, num_channels = _codes(upload.channel_id or "" for upload in uploads)
        category_N, num_categories = _codes(upload.category or "" for upload in uploads)
        tag_N, num_tags = _codes(_topic(upload) for upload in uploads)
        duration_ms_N = np.array([upload.duration_ms for upload in uploads], np.int64)
        return cls(
            channel_N=channel_N,
            category_N=category_N,
            tag_N=tag_N,
            duration_class_N=duration_class(duration_ms_N),
            duration_ms_N=duration_ms_N,
            num_channels=num_channels,
            num_categories=num_categories,
            num_tags=num_tags,
        )


def _topic(upload: VideoUpload) -> str:
    return next((tag for tag in upload.tags if tag.startswith(_TOPIC)), "")


def _codes(names: Iterable[str]) -> tuple[Int64[np.ndarray, "N"], int]:
    code_of: dict[str, int] = {}
    codes = [code_of.setdefault(name, len(code_of)) for name in names]
    return np.array(codes, np.int64), len(code_of)


@dataclass(frozen=True, slots=True)
class Shares:
    """How many exposures of the histories each key had, and how many were completed."""

    count_K: Float64[np.ndarray, "K"]
    completed_K: Float64[np.ndarray, "K"]

    def share(
        self,
        key_B: Int64[np.ndarray, "B"],
        prior_B: Float64[np.ndarray, "B"] | float,
        strength: float,
    ) -> Float64[np.ndarray, "B"]:
        """Return the share of completed ones of each key, drawn to *prior_B*."""
        share_B: np.ndarray = (self.completed_K[key_B] + strength * prior_B) / (
            self.count_K[key_B] + strength
        )
        return share_B


@dataclass(frozen=True, slots=True)
class HistoryRows:
    """The exposures of all histories one after another: user, video, and whether completed."""

    user_H: Int64[np.ndarray, "H"]
    column_H: Int64[np.ndarray, "H"]
    completed_H: Float64[np.ndarray, "H"]

    @classmethod
    def of(cls, training: RankTraining) -> "HistoryRows":
        """Return the rows of *training*, oldest first within a user."""
        code_of = {user_id: code for code, user_id in enumerate(training.user_ids)}
        users, columns, completed = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
        for history in training.histories:
            columns.append(np.array(history.columns, np.int64))
            completed.append(np.array(history.is_completed, np.float64))
            users.append(np.full(len(history.columns), code_of[history.user_id], np.int64))
        return cls(np.concatenate(users), np.concatenate(columns), np.concatenate(completed))

    @property
    def completed_share(self) -> float:
        """The share of completed ones among all; a third without any."""
        return float(self.completed_H.mean()) if len(self.completed_H) else 1 / 3

    def shares(self, key_H: Int64[np.ndarray, "H"], num_keys: int) -> Shares:
        """Return the shares by *key_H*, a code from 0 for each row."""
        return Shares(
            np.bincount(key_H, minlength=num_keys).astype(np.float64),
            np.bincount(key_H, self.completed_H, minlength=num_keys),
        )
