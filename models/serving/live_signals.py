"""Count recent watches of each video, as components of its item vector.

What everybody watches right now says more of the next watch than any taste does, and it is known
within seconds. So an item vector has, beside its taste, a component for each of `SIGNALS`, and
the user vector has the weight that this user gives to it: the score stays one inner product,
and one search of the index finds what is near *and* hot.

A signal is ``log(1 + count / prior)`` of an exponentially decayed count, and above
`SATURATES_AT` it nears `LARGEST`: however hot a video is, its vector has room for all of its
taste, and a model learns from the very signals that are served. What nobody watched
has zeros, which is what a new upload is given by its content alone. A count that decays moves its
video without anybody watching it: `LiveSignals.take_moved` tells whose vectors are out of date.

Norms of videos differ little before `simple_lsh` evens them out, so that a graph of neighbours
finds them: on KuaiRand's 7,583 videos HNSW (m = 16, ef = 200) has a recall@100 of 1.000 against
the exact search, .999 with ef = 128 (300 users of 25 April).

Source:
    Neyshabur and Srebro, On Symmetric and Asymmetric LSHs for Inner Product Search, ICML 2015
    (the component that makes all norms one: models/serving/simple_lsh.py)
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Integer

from models.features.growth import FIRST_CAPACITY, grown
from models.history.history import HOUR_MS
from models.serving import simple_lsh
from models.serving.ranking import RankerParams

# Shape legend: N = rows, row 0 included; n = some rows; K = signals; D = width of a taste vector;
# E = width of a served vector.

HALF_LIVES_H = (1.0, 3.0, 8.0, 24.0, 72.0, 720.0)
PRIORS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Below so many decayed watches a video is as good as unwatched; one for each half-life."""
SIGNALS = tuple(f"{what}_{hours:g}h" for hours in HALF_LIVES_H for what in ("watches", "completed"))
NUM_SIGNALS = len(SIGNALS)

SCALE = 0.05
"""What signals are multiplied by in an item vector, so that tastes (norm 1) are not dwarfed."""
MAX_NORM = 2.0
"""Of a video before it is served: its taste has norm 1, and the signals a norm of at most 34.6."""
LARGEST = (MAX_NORM**2 - 1) ** 0.5 / (SCALE * NUM_SIGNALS**0.5)
"""What no signal gets above: all of them at once just come to `MAX_NORM`. It is 10."""
SATURATES_AT = 7.0
"""Up to here a signal is the logarithm: 38 watches an hour in the shortest one, for years."""
SIGNIFICANT = 0.25
"""A signal that moved this far, a factor of e^0.25 in its count, is worth another publication."""

LOOK_EVERY_MS = 5 * 60_000
LOOK_ROWS = 20_000
"""So many rows are looked through at once: 5 ms of a core, and a batch waits no longer."""

_MAX_HALF_LIVES = 32.0  # of the shortest; beyond it the counts are scaled down

RANKER = RankerParams(temperature=1 / 60, similarity_weight=1.0, popularity_weight=0.0)
"""The served order is that of retrieval, which knows already what is popular. About 60 is what
takes a served similarity back to its logit."""


class LiveSignals:
    """Decayed counts of watches and of completed ones, by row.

    A watch is added with a weight that grows with its time, by what it will have decayed less than
    those of the landmark (forward decay, as in `trainer.evaluate.popularity`): a batch touches the
    rows that were watched, and no others.
    """

    def __init__(self) -> None:
        self.newest_ms = 0
        self._landmark_ms = 0
        self._count_NK = np.zeros((FIRST_CAPACITY, NUM_SIGNALS))
        self._published_NK = np.zeros((FIRST_CAPACITY, NUM_SIGNALS), np.float32)
        self._looked_ms = self._next_row = 0
        self._half_life_ms_K = np.repeat(HALF_LIVES_H, 2) * HOUR_MS
        self._prior_K = np.repeat(PRIORS, 2)

    def reserve(self, row: int) -> None:
        """Make room for *row*, by doubling."""
        self._count_NK = grown(self._count_NK, row + 1)
        self._published_NK = grown(self._published_NK, row + 1)

    def forget(self, rows: Integer[np.ndarray, "n"]) -> None:
        """Forget the watches of *rows*, and what was published of them."""
        self._count_NK[rows] = 0.0
        self._published_NK[rows] = 0.0

    def start(
        self,
        rows: Integer[np.ndarray, "n"],
        is_completed: Bool[np.ndarray, "n"],
        *,
        span_ms: int,
    ) -> None:
        """Count watches without known times, as if they were spread evenly over *span_ms*."""
        total_N2 = np.zeros((len(self._count_NK), 2))
        np.add.at(total_N2[:, 0], rows, 1.0)
        np.add.at(total_N2[:, 1], rows[is_completed], 1.0)
        mean_life_ms_K = self._half_life_ms_K / np.log(2)
        steady_K = mean_life_ms_K / span_ms * (1.0 - np.exp(-span_ms / mean_life_ms_K))
        self._count_NK += np.tile(total_N2, len(HALF_LIVES_H)) * (steady_K / self._scale_K)

    def count(
        self,
        rows: Integer[np.ndarray, "n"],
        times_ms: Integer[np.ndarray, "n"],
        is_completed: Bool[np.ndarray, "n"],
        is_first: Bool[np.ndarray, "n"] | None = None,
    ) -> None:
        """Count watches; those of row 0 are left out. One that comes late has decayed already.

        Those that are not *is_first* count as completed ones alone: their users have been counted.
        """
        known = rows > 0
        if not known.any():
            return
        first = np.ones(len(rows), bool) if is_first is None else is_first
        rows, times_ms = rows[known], times_ms[known]
        self._move_to(int(times_ms.max()))
        since_ms_n1 = (times_ms - self._landmark_ms)[:, None]
        weight_nK = np.exp2(since_ms_n1 / self._half_life_ms_K)
        weight_nK[:, 0::2] *= first[known, None]
        weight_nK[:, 1::2] *= is_completed[known, None]
        np.add.at(self._count_NK, rows, weight_nK)

    def turn_back(self, now_ms: int, *, latest_ms: int) -> bool:
        """Set the clock to *now_ms* if it stands after *latest_ms*; return whether it did."""
        if self.newest_ms <= latest_ms:
            return False
        self._settle(now_ms)
        self.newest_ms = now_ms
        self._looked_ms = min(self._looked_ms, now_ms)
        return True

    def signals(self, rows: Integer[np.ndarray, "n"]) -> Float32[np.ndarray, "n K"]:
        """Return the signals of *rows* at the newest event time."""
        scale_K = self._scale_K / self._prior_K
        signals_nK = saturated(np.log1p(self._count_NK[rows] * scale_K))
        return signals_nK.astype(np.float32)

    def take_moved(self, num_rows: int) -> Integer[np.ndarray, "n"]:
        """Return which of rows 1 to *num_rows* have moved significantly since they were returned.

        All are looked through, `LOOK_ROWS` at each call, and not again before some minutes of event
        time have passed.
        """
        if not self._next_row and self.newest_ms - self._looked_ms < LOOK_EVERY_MS:
            return np.zeros(0, np.int64)
        if not self._next_row:
            self._looked_ms, self._next_row = self.newest_ms, 1
        rows = np.arange(self._next_row, min(self._next_row + LOOK_ROWS, num_rows + 1))
        self._next_row = int(rows[-1]) + 1 if len(rows) and rows[-1] < num_rows else 0
        now_nK = self.signals(rows)
        is_moved_n = (np.abs(now_nK - self._published_NK[rows]) > SIGNIFICANT).any(axis=1)
        moved: np.ndarray = rows[is_moved_n]
        self._published_NK[moved] = now_nK[is_moved_n]
        return moved

    def state(self) -> dict[str, np.ndarray]:
        """Return counts and what was last published, for a checkpoint; views, not copies."""
        return {
            "count_NK": self._count_NK,
            "published_NK": self._published_NK,
            "times_ms": np.array(
                [self.newest_ms, self._looked_ms, self._landmark_ms, self._next_row], np.int64
            ),
        }

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: an array is missing or has other signals.
        """
        given = [arrays.get(name) for name in ("count_NK", "published_NK", "times_ms")]
        counts, published, times_ms = given
        if counts is None or published is None or times_ms is None:
            raise ValueError("an array of the live signals is missing")
        if counts.shape[1:] != (NUM_SIGNALS,) or published.shape[1:] != (NUM_SIGNALS,):
            raise ValueError(f"not the counts of {NUM_SIGNALS} live signals: {counts.shape}")
        self._count_NK = counts.copy()
        self._published_NK = grown(published.copy(), len(counts))
        # those of 0.2 had decayed to the newest time, and were looked through at once
        self.newest_ms, self._looked_ms, *since_0_3 = times_ms.tolist()
        self._landmark_ms, self._next_row = since_0_3 or (self.newest_ms, 0)

    @property
    def _scale_K(self) -> Float[np.ndarray, "K"]:
        """What weights are multiplied by to be decayed counts at the newest event time."""
        scale_K: np.ndarray = np.exp2((self._landmark_ms - self.newest_ms) / self._half_life_ms_K)
        return scale_K

    def _move_to(self, time_ms: int) -> None:
        if not self.newest_ms:
            self._landmark_ms = time_ms
        self.newest_ms = max(self.newest_ms, time_ms)
        if self.newest_ms - self._landmark_ms > _MAX_HALF_LIVES * self._half_life_ms_K.min():
            self._settle(self.newest_ms)

    def _settle(self, landmark_ms: int) -> None:
        """Keep the counts of now as weights relative to *landmark_ms*."""
        self._count_NK *= self._scale_K
        self._landmark_ms = landmark_ms


def saturated(log_nK: Float[np.ndarray, "n K"]) -> Float64[np.ndarray, "n K"]:
    """Return what is up to `SATURATES_AT` as it is, and more of it nearer to `LARGEST`."""
    room = LARGEST - SATURATES_AT
    beyond_nK = np.maximum(log_nK - SATURATES_AT, 0.0)
    saturated_nK: np.ndarray = np.minimum(log_nK, SATURATES_AT) - room * np.expm1(-beyond_nK / room)
    return saturated_nK


def served_items(
    taste_ND: Float[np.ndarray, "N D"], signals_NK: Float[np.ndarray, "N K"]
) -> Float32[np.ndarray, "N E"]:
    """Return item vectors of unit norm, of tastes (unit norm) and signals together."""
    item_NE = np.concatenate([taste_ND, SCALE * signals_NK], axis=1)
    return simple_lsh.convert_items(item_NE, max_norm=MAX_NORM)


def served_dim(dim: int) -> int:
    """Return the width of a served vector whose taste has *dim* components."""
    return dim + NUM_SIGNALS + 1
