"""Score by a factorisation machine, learned online by Adagrad.

Each field of an exposure is one feature that is on: user, video, channel, tag, surface, surface
and video, duration. Histories are learned first, where a completed watch is the positive.
The user's weights are their own state: scored still, they are as they were at the last hold.

Source:
    Rendle, Factorization Machines, ICDM 2010, https://doi.org/10.1109/ICDM.2010.127
"""

import copy
from typing import Self

import numpy as np
from jaxtyping import Float64, Int64

from nextwatch.evaluate.ranking.contender import Exposures, Outcomes, RankTraining, Scores
from nextwatch.evaluate.ranking.live_features import NUM_SURFACES
from nextwatch.evaluate.ranking.video_codes import HistoryRows, VideoCodes
from nextwatch.evaluate.ranking.watch_time import WatchByDuration, duration_class

# Shape legend: B = exposures of a batch, F = fields (the user's first), W = weights of all fields,
# D = factors.

_DIM = 16
_RATE = 0.03  # chosen with the penalty, the passes and the fields on 29 and 30 April
_PENALTY = 1e-2
_BATCH = 256
_PASSES = 2
_NO_SURFACE = NUM_SURFACES - 1


class FactorisationMachine:
    """Pairwise products of learned vectors, one vector a user, a video, a channel, and so on."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._offset_F: Int64[np.ndarray, F] = np.zeros(0, np.int64)
        self._weight_W: Float64[np.ndarray, W] = np.zeros(0)
        self._factor_WD: Float64[np.ndarray, "W D"] = np.zeros((0, _DIM))
        self._weight_square_W = self._weight_W
        self._factor_square_WD = self._factor_WD
        self._bias = 0.0
        self._codes: VideoCodes | None = None
        self._num_users = 0
        self._held_weight_U = self._weight_W
        self._held_factor_UD = self._factor_WD
        self._watch = WatchByDuration()

    def prepare(self, training: RankTraining) -> None:
        """Make the weights, and learn the histories in an order drawn by lot."""
        self._codes = codes = VideoCodes.of(training.uploads)
        self._num_users = len(training.user_ids)
        sizes = [
            self._num_users,
            len(training.uploads),
            codes.num_channels,
            codes.num_tags,
            NUM_SURFACES,
            len(training.uploads) * NUM_SURFACES,
            codes.num_duration_classes,
        ]
        self._offset_F = np.cumsum([0, *sizes[:-1]])
        num_weights = sum(sizes)
        self._weight_W = np.zeros(num_weights)
        self._factor_WD = self._rng.normal(0.0, 0.05, (num_weights, _DIM))
        self._weight_square_W = np.full(num_weights, 1e-2)
        self._factor_square_WD = np.full((num_weights, _DIM), 1e-2)
        rows = HistoryRows.of(training)
        share = min(max(rows.completed_share, 0.01), 0.99)
        self._bias = float(np.log(share / (1.0 - share)))
        surface_H = np.full(len(rows.user_H), _NO_SURFACE, np.int64)
        for _ in range(_PASSES):
            order_H = self._rng.permutation(len(rows.user_H))
            for start in range(0, len(order_H), _BATCH):
                which = order_H[start : start + _BATCH]
                active_BF = self._active(
                    rows.user_H[which],
                    rows.column_H[which],
                    surface_H[which],
                    codes.duration_ms_N[rows.column_H[which]],
                )
                self._learn(active_BF, rows.completed_H[which])
        self.hold_own_state()

    def hold_own_state(self) -> None:
        """Keep the weights of the users."""
        self._held_weight_U = self._weight_W[: self._num_users].copy()
        self._held_factor_UD = self._factor_WD[: self._num_users].copy()

    def score(self, exposures: Exposures, *, is_own_still: bool) -> Scores:
        """Return the probability, and the watch time that goes with it and the duration."""
        active_BF = self._of(exposures)
        weight_BF, factor_BFD = self._weight_W[active_BF], self._factor_WD[active_BF]
        if is_own_still:
            weight_BF[:, 0] = self._held_weight_U[exposures.user_B]
            factor_BFD[:, 0] = self._held_factor_UD[exposures.user_B]
        p_B = _sigmoid(self._bias + _sum_of_pairs(weight_BF, factor_BFD))
        return Scores(p_B, self._watch.expected_s(p_B, exposures.duration_ms_B))

    def observe(self, exposures: Exposures, outcomes: Outcomes) -> None:
        """Take one step."""
        self._learn(self._of(exposures), outcomes.is_positive_B.astype(np.float64))
        self._watch.add(exposures.duration_ms_B, outcomes.is_positive_B, outcomes.watch_s_B)

    def frozen(self) -> Self:
        """Return a copy."""
        return copy.deepcopy(self)

    def _of(self, exposures: Exposures) -> Int64[np.ndarray, "B F"]:
        surface_B = np.clip(exposures.surface_B + 1, 0, _NO_SURFACE)
        return self._active(
            exposures.user_B, exposures.column_B, surface_B, exposures.duration_ms_B
        )

    def _active(
        self,
        user_B: Int64[np.ndarray, "B"],
        column_B: Int64[np.ndarray, "B"],
        surface_B: Int64[np.ndarray, "B"],
        duration_ms_B: Int64[np.ndarray, "B"],
    ) -> Int64[np.ndarray, "B F"]:
        """Return the weights that are on, by field."""
        codes = self._codes
        assert codes is not None, "prepare comes first"
        fields = [
            user_B,
            column_B,
            codes.channel_N[column_B],
            codes.tag_N[column_B],
            surface_B,
            column_B * NUM_SURFACES + surface_B,
            duration_class(duration_ms_B),
        ]
        active_BF: np.ndarray = np.stack(fields, axis=1) + self._offset_F
        return active_BF

    def _learn(
        self, active_BF: Int64[np.ndarray, "B F"], label_B: Float64[np.ndarray, "B"]
    ) -> None:
        weight_BF, factor_BFD = self._weight_W[active_BF], self._factor_WD[active_BF]
        error_B = _sigmoid(self._bias + _sum_of_pairs(weight_BF, factor_BFD)) - label_B
        total_B1D = factor_BFD.sum(axis=1, keepdims=True)
        weight_step = error_B[:, None] + _PENALTY * weight_BF
        factor_step = error_B[:, None, None] * (total_B1D - factor_BFD) + _PENALTY * factor_BFD
        np.add.at(self._weight_square_W, active_BF, weight_step**2)
        np.add.at(self._factor_square_WD, active_BF, factor_step**2)
        weight_step *= _RATE / np.sqrt(self._weight_square_W[active_BF])
        factor_step *= _RATE / np.sqrt(self._factor_square_WD[active_BF])
        np.add.at(self._weight_W, active_BF, -weight_step)
        np.add.at(self._factor_WD, active_BF, -factor_step)


def _sum_of_pairs(
    weight_BF: Float64[np.ndarray, "B F"], factor_BFD: Float64[np.ndarray, "B F D"]
) -> Float64[np.ndarray, "B"]:
    """Return the linear part plus the inner products of all pairs of fields."""
    total_BD = factor_BFD.sum(axis=1)
    pairs_B = 0.5 * ((total_BD**2).sum(axis=1) - (factor_BFD**2).sum(axis=(1, 2)))
    sum_B: np.ndarray = weight_BF.sum(axis=1) + pairs_B
    return sum_B


def _sigmoid(logit_B: Float64[np.ndarray, "B"]) -> Float64[np.ndarray, "B"]:
    p_B: np.ndarray = 1.0 / (1.0 + np.exp(-np.clip(logit_B, -30.0, 30.0)))
    return p_B
