"""Normalise continuous features to their quantiles in [0, 1], with square and root beside.

A value becomes the share of training values below it, linear between quantiles, so that every
feature is spread evenly whatever its distribution. Square and square root let a network form curves
that a linear layer alone cannot. What is unknown has no quantile: it is 0 in all three, and an
indicator says so.

Interpolation by search is slow for a hundred thousand values. Here the upper bits of the float32
number itself, its sign, its exponent and the first bits of its mantissa, choose a line of slope and
offset: two lookups for any distribution, the same arithmetic in training and in serving.

Source:
    Covington, Adams, Sargin, Deep Neural Networks for YouTube Recommendations, section 4.1,
    RecSys 2016, https://doi.org/10.1145/2959100.2959190
"""

import numpy as np
from jaxtyping import Float, Float32

from models.features.ranking_features import UNKNOWN

# Shape legend: F = features, K = knots, M = rows of values, L = lines, X = outputs: a block of all
# features for the share, one for its square, one for its root, and one for whether it is unknown.

_DROPPED_BITS = 18
_NUM_LINES = 1 << (32 - _DROPPED_BITS)
_TINY = 1e-30  # so near to 0, lines are flat: -0 is not a step below 0


class Normaliser:
    """The shares of values below, by the quantiles of each feature, evenly spaced: *knots_FK*."""

    def __init__(self, knots_FK: Float[np.ndarray, "F K"], *, has_roots: bool = True) -> None:
        self.num_features, self.has_roots = len(knots_FK), has_roots
        starts_L, ends_L = _edges()
        share_K = np.linspace(0.0, 1.0, knots_FK.shape[1])
        slope_FL, offset_FL = np.zeros((2, self.num_features, _NUM_LINES))
        for feature, knots_K in enumerate(knots_FK):
            first_L, last_L = (np.interp(x_L, knots_K, share_K) for x_L in (starts_L, ends_L))
            rise_L = np.where(np.abs(starts_L) < _TINY, 0.0, last_L - first_L)
            slope_FL[feature] = rise_L / (ends_L - starts_L)
            offset_FL[feature] = first_L - slope_FL[feature] * starts_L
        unknown = int(np.float32(UNKNOWN).view(np.uint32) >> _DROPPED_BITS)
        slope_FL[:, unknown] = offset_FL[:, unknown] = 0.0
        self._slope_L = slope_FL.astype(np.float32).ravel()
        self._offset_L = offset_FL.astype(np.float32).ravel()
        self._first_line_F1 = (np.arange(self.num_features, dtype=np.int32) * _NUM_LINES)[:, None]

    @property
    def num_outputs(self) -> int:
        """How many rows `apply` makes."""
        return self.num_features * (4 if self.has_roots else 2)

    def apply(self, value_FM: Float32[np.ndarray, "F M"]) -> Float32[np.ndarray, "X M"]:
        """Return the normalised values, features as rows: see the shape legend."""
        out_XM = np.empty((self.num_outputs, value_FM.shape[1]), np.float32)
        self.apply_to(value_FM, out_XM)
        return out_XM

    def apply_to(
        self, value_FM: Float32[np.ndarray, "F M"], out_XM: Float32[np.ndarray, "X M"]
    ) -> None:
        """Write the normalised values into *out_XM*; *value_FM* is contiguous."""
        num = self.num_features
        line_FM = (value_FM.view(np.uint32) >> _DROPPED_BITS).view(np.int32)
        line_FM += self._first_line_F1
        share_FM = out_XM[:num]
        np.multiply(self._slope_L.take(line_FM), value_FM, out=share_FM)
        share_FM += self._offset_L.take(line_FM)
        np.clip(share_FM, 0.0, 1.0, out=share_FM)
        if self.has_roots:
            np.multiply(share_FM, share_FM, out=out_XM[num : 2 * num])
            np.sqrt(share_FM, out=out_XM[2 * num : 3 * num])
        np.equal(value_FM, UNKNOWN, out=out_XM[-num:], casting="unsafe")


def _edges() -> tuple[np.ndarray, np.ndarray]:
    """Return where each line starts and where it ends, away from 0."""
    bits_L = np.arange(_NUM_LINES, dtype=np.uint32) << np.uint32(_DROPPED_BITS)
    with np.errstate(invalid="ignore"):  # some bits are no number
        starts_L = bits_L.view(np.float32).astype(np.float64)
        last_L = (bits_L | np.uint32((1 << _DROPPED_BITS) - 1)).view(np.float32).astype(np.float64)
    is_number_L = np.isfinite(starts_L) & np.isfinite(last_L)
    largest = float(np.finfo(np.float32).max)
    starts_L = np.where(is_number_L, starts_L, largest)
    ends_L = np.where(is_number_L, last_L, 2 * largest)
    starts_L[starts_L == 0] = 0.0
    return starts_L, ends_L
