"""The input and output of every peer; needs numpy only, so any environment can load it.

Given are sequences of columns, oldest first, without the film that is the test of each user;
those set apart for validation come without their second last film too, which stands beside
them. Nothing in it says what the tests are. Given back are the first `TOP` films for each user,
who by then has watched all but the last one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Shape legend: U = users, K = watches of all users, N = videos, B = some users, T = first places.

TOP = 100
NOBODY = -1
"""In a list: no more to show. As the film held back from a user: none is."""
_RANKED = 10

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Split:
    """Training sequences, user after user, and the cases of the validation.

    Args:
        column_K: the films watched.
        start_U1: where the films of each user start; the end of the last user's is one more.
        held_U: the film to find for the users of the validation, `NOBODY` for all others.
        num_videos: of the catalogue.
    """

    column_K: Ints
    start_U1: Ints
    held_U: Ints
    num_videos: int

    @classmethod
    def of(
        cls, sequences: Sequence[Sequence[int]], held: Sequence[int], num_videos: int
    ) -> "Split":
        """Return the split with one of *sequences* and of *held* for each user."""
        start_U1 = np.cumsum([0, *map(len, sequences)])
        column_K = np.array([column for one in sequences for column in one], np.int64)
        return cls(column_K, start_U1, np.array(held, np.int64), num_videos)

    @property
    def num_users(self) -> int:
        """How many users there are; all have a test."""
        return len(self.held_U)

    @property
    def user_K(self) -> Ints:
        """The user of each watch."""
        return np.repeat(np.arange(self.num_users), np.diff(self.start_U1))

    @property
    def place_K(self) -> Ints:
        """How many watches of the same user come before each."""
        return np.arange(len(self.column_K)) - self.start_U1[self.user_K]

    @property
    def validated(self) -> Ints:
        """The users of the validation."""
        return np.flatnonzero(self.held_U != NOBODY)

    def learned(self, user: int) -> Ints:
        """Return what may be learned of *user*."""
        return self.column_K[self.start_U1[user] : self.start_U1[user + 1]]

    def known(self, user: int) -> Ints:
        """Return all that *user* has watched before the test."""
        held = self.held_U[user : user + 1]
        return np.concatenate([self.learned(user), held[held != NOBODY]])

    def full(self) -> "Split":
        """Return the split as it is before the test: what was held back is watched."""
        sequences = [self.known(user).tolist() for user in range(self.num_users)]
        return Split.of(sequences, [NOBODY] * self.num_users, self.num_videos)

    def write(self, path: Path) -> None:
        """Write everything to *path*, plain arrays."""
        np.savez(
            path,
            column_K=self.column_K,
            start_U1=self.start_U1,
            held_U=self.held_U,
            num_videos=self.num_videos,
        )

    @classmethod
    def read(cls, path: Path) -> "Split":
        """Return what `write` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(
                arrays["column_K"],
                arrays["start_U1"],
                arrays["held_U"],
                int(arrays["num_videos"]),
            )


def first(score_BN: Floats, watched: Sequence[Ints]) -> Ints:
    """Return the first `TOP` columns of each user by score, the best first, without *watched*.

    *score_BN* is overwritten.
    """
    _leave_out(score_BN, watched)
    most = min(TOP, score_BN.shape[1])
    best_BT = np.argpartition(-score_BN, most - 1, axis=1)[:, :most]
    best_score_BT = np.take_along_axis(score_BN, best_BT, axis=1)
    order_BT = np.argsort(-best_score_BT, axis=1, kind="stable")
    sorted_BT = np.take_along_axis(best_BT, order_BT, axis=1)
    is_shown_BT = np.take_along_axis(best_score_BT, order_BT, axis=1) > -np.inf
    lists_BT: Ints = np.full((len(score_BN), TOP), NOBODY)
    lists_BT[:, :most] = np.where(is_shown_BT, sorted_BT, NOBODY)
    return lists_BT


def ndcg(score_BN: Floats, split: Split) -> float:
    """Return NDCG@10 of *score_BN*, one line for each of the users of the validation.

    It is for choosing and stopping only: a tie counts for the film sought. *score_BN* is
    overwritten.
    """
    users = split.validated
    _leave_out(score_BN, [split.learned(user) for user in users.tolist()])
    sought_B1 = np.take_along_axis(score_BN, split.held_U[users][:, None], axis=1)
    num_better_B = (score_BN > sought_B1).sum(axis=1)
    gain_B = np.where(num_better_B < _RANKED, 1 / np.log2(num_better_B + 2), 0.0)
    return float(gain_B.mean())


def ndcg_of_lists(lists_BT: Ints, split: Split) -> float:
    """Return NDCG@10 of the lists for the users of the validation."""
    is_hit_BT = lists_BT[:, :_RANKED] == split.held_U[split.validated][:, None]
    gain_T = 1 / np.log2(np.arange(2, is_hit_BT.shape[1] + 2))
    return float((is_hit_BT @ gain_T).mean())


def _leave_out(score_BN: Floats, watched: Sequence[Ints]) -> None:
    for score_N, columns in zip(score_BN, watched, strict=True):
        score_N[columns] = -np.inf


def windows(split: Split, ends: Ints, users: Ints, length: int) -> Any:
    """Return the last *length* films before each place *ends* of `Split.column_K`, counted from 1.

    Only films of the same of *users* count; zeros in front fill up.
    """
    place_BT = ends[:, None] - np.arange(length, 0, -1)
    is_own_BT = place_BT >= split.start_U1[users][:, None]
    return np.where(is_own_BT, split.column_K[np.maximum(place_BT, 0)] + 1, 0)
