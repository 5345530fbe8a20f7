"""Keep the newest training examples as arrays, for later steps to learn from again.

One look at an example is too few to learn an embedding from it, and only ever the newest
forget the day before. Everything in the ring lies in the past of the next score, so drawing
from it is no peeking. Rows are fixed in width, so that a draw is one fancy index per array.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from jaxtyping import Float32, Int64, Integer

from models.features.examples import Example
from models.features.features import (
    CONTEXT_FIELDS,
    MAX_TOKENS,
    MAX_WATCHES,
    WATCH_FEATURES,
    FeatureEncoder,
    Rows,
    UserBatch,
)
from models.serving.live_signals import NUM_SIGNALS

# Shape legend: B = examples; K = slots, or live signals.


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Users as the tower reads them, and the row of the video that each watched next.

    *label_signals_BK* are the live signals of that video as they were before it was watched: those
    of today have counted the very watch that is to be predicted.
    """

    users: UserBatch
    label_rows_B: Int64[np.ndarray, "B"]
    label_signals_BK: Float32[np.ndarray, "B K"]


@dataclass(frozen=True, slots=True)
class EncodedExamples:
    """Examples with their windows as arrays, to be scored and then learned from."""

    examples: Sequence[Example]
    users: UserBatch

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def video_ids(self) -> list[str]:
        """The video that each user watched next."""
        return [example.video_id for example in self.examples]

    @property
    def user_ids(self) -> list[str]:
        """The user of each example."""
        return [example.user_id for example in self.examples]

    def at(self, places: Sequence[int]) -> "EncodedExamples":
        """Return the examples at *places*."""
        if len(places) == len(self):
            return self
        return EncodedExamples([self.examples[place] for place in places], self.users.at(places))


class ReplayBuffer:
    """Keeps the newest *size* examples."""

    def __init__(self, size: int) -> None:
        self.num_added = 0
        self.arrays: dict[str, np.ndarray] = {
            "watch_rows": np.zeros((size, MAX_WATCHES), np.int32),
            "watch_features": np.zeros((size, MAX_WATCHES, len(WATCH_FEATURES)), np.float32),
            "token_rows": np.zeros((size, MAX_TOKENS), np.int32),
            "token_weights": np.zeros((size, MAX_TOKENS), np.float32),
            "context_rows": np.zeros((size, len(CONTEXT_FIELDS)), np.int32),
            "label_rows": np.zeros(size, np.int64),
            "label_signals": np.zeros((size, NUM_SIGNALS), np.float32),
            "event_time_ms": np.zeros(size, np.int64),
            "user_hash": np.zeros(size, np.uint64),
        }

    def __len__(self) -> int:
        return min(self.num_added, self._size)

    @property
    def _size(self) -> int:
        return len(self.arrays["label_rows"])

    def add(
        self,
        encoded: EncodedExamples,
        label_rows_B: Integer[np.ndarray, "B"],
        label_signals_BK: Float32[np.ndarray, "B K"] | None = None,
    ) -> Int64[np.ndarray, "B"]:
        """Keep the examples, in place of the oldest, and return their slots."""
        examples, users = encoded.examples, encoded.users
        slots = (self.num_added + np.arange(len(examples))) % self._size
        self.num_added += len(examples)
        for name, padded in (
            ("watch_rows", users.watch_rows_BT),
            ("watch_features", users.watch_features_BTF),
            ("token_rows", users.token_rows_BS),
            ("token_weights", users.token_weights_BS),
        ):
            array = self.arrays[name]
            array[slots] = 0
            array[slots, -padded.shape[1] :] = padded
        self.arrays["context_rows"][slots] = users.context_rows_BC
        self.arrays["label_rows"][slots] = label_rows_B
        self.arrays["label_signals"][slots] = 0.0 if label_signals_BK is None else label_signals_BK
        self.arrays["event_time_ms"][slots] = [example.event_time_ms for example in examples]
        self.arrays["user_hash"][slots] = [_hashed(example.user_id) for example in examples]
        return slots

    def clear(self) -> None:
        """Erase every example; the next ones are kept in the same slots."""
        for array in self.arrays.values():
            array[: len(self)] = 0
        self.num_added = 0

    def draw(
        self, rng: np.random.Generator, size: int, *, max_per_user: int | None = None
    ) -> Int64[np.ndarray, "K"]:
        """Return *size* random slots, with repeats.

        With *max_per_user* only that many newest examples of each user take part, so that few
        heavy watchers do not own the loss (Covington et al. 2016, section 3.4).
        """
        if max_per_user is None:
            return rng.integers(len(self), size=size)
        newest_first = (self.num_added - 1 - np.arange(len(self))) % self._size
        order = newest_first[np.argsort(self.arrays["user_hash"][newest_first], kind="stable")]
        hashes = self.arrays["user_hash"][order]
        firsts = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1]))
        place = np.arange(len(order)) - np.repeat(firsts, np.diff(np.append(firsts, len(order))))
        return rng.choice(order[place < max_per_user], size=size)

    def take(
        self, slots: Integer[np.ndarray, "K"], features: FeatureEncoder, *, now_ms: int
    ) -> TrainingBatch:
        """Return the examples in *slots* at their age of *now_ms*; erased ones are left out."""
        slots = slots[self.arrays["label_rows"][slots] > 0]
        watch_rows = self.arrays["watch_rows"][slots]
        token_rows = self.arrays["token_rows"][slots]
        width, num_tokens = _used(watch_rows), _used(token_rows)
        return TrainingBatch(
            users=UserBatch(
                watch_rows_BT=watch_rows[:, -width:],
                watch_features_BTF=self.arrays["watch_features"][slots, -width:],
                token_rows_BS=token_rows[:, -num_tokens:],
                token_weights_BS=self.arrays["token_weights"][slots, -num_tokens:],
                context_rows_BC=self.arrays["context_rows"][slots],
                example_age_BA=features.example_age(now_ms - self.arrays["event_time_ms"][slots]),
            ),
            label_rows_B=self.arrays["label_rows"][slots],
            label_signals_BK=self.arrays["label_signals"][slots],
        )

    def state(self) -> dict[str, np.ndarray]:
        """Return the used part of the arrays; views, not copies."""
        return {name: array[: len(self)] for name, array in self.arrays.items()}

    def load_state(self, arrays: Mapping[str, np.ndarray], *, num_added: int) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: an array is missing or does not fit.
        """
        self.num_added = num_added
        for name, array in self.arrays.items():
            given = arrays.get(name)
            if given is None or given.shape != (len(self), *array.shape[1:]):
                raise ValueError(f"{name} of the replay buffer is missing or of another shape")
            array[: len(self)] = given

    def forget_user(self, user_id: str) -> None:
        """Erase every example of a user."""
        gone = self.arrays["user_hash"] == np.uint64(_hashed(user_id))
        for array in self.arrays.values():
            array[gone] = 0

    def forget_video(self, row: int) -> None:
        """Erase every example that has this video as its label."""
        self.arrays["label_rows"][self.arrays["label_rows"] == row] = 0

    def forget_rows(self, rows: Integer[np.ndarray, "n"]) -> None:
        """Erase *rows*, which other videos will have: as labels with their examples, as watches."""
        for name in ("label_rows", "watch_rows"):
            kept = self.arrays[name]
            is_gone = np.zeros(max(int(kept.max(initial=0)), int(rows.max(initial=0))) + 1, bool)
            is_gone[rows] = True
            kept[is_gone[kept]] = 0


def encode_examples(
    examples: Sequence[Example], features: FeatureEncoder, rows: Rows
) -> EncodedExamples:
    """Encode the windows of *examples* as serving would have just before the watch."""
    windows = [example.window for example in examples]
    users = features.windows(windows, rows, [window.newest_ms for window in windows])
    return EncodedExamples(examples, users)


def _used(rows: np.ndarray) -> int:
    """Return how many columns from the right hold anything, at least one."""
    columns = np.flatnonzero(rows.any(axis=0))
    return int(rows.shape[1] - columns[0]) if len(columns) else 1


def _hashed(user_id: str) -> int:
    return xxhash.xxh3_64_intdigest(user_id.encode())
