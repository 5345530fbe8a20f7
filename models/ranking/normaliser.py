"""Normalise continuous features by their quantiles, learned from the stream.

A value becomes the share of values below it, so that each feature is spread evenly over 0 to 1
whatever its scale. Its square and its square root stand beside it, which lets a network of few
layers bend it both ways; `UNKNOWN` is told by a flag of its own.

Quantiles are those of a sample of all values so far. They are taken anew each time that the number
of values has doubled, and every `REFIT_EVERY` values: more and more seldom, since each time the
weights behind them have to follow.

Source:
    Covington, Adams, Sargin, Deep Neural Networks for YouTube Recommendations, section 4.1,
    RecSys 2016, https://doi.org/10.1145/2959100.2959190
    Vitter, Random Sampling with a Reservoir, ACM TOMS 1985, https://doi.org/10.1145/3147.3165
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Float32, Int64

from models.features.ranking_features import UNKNOWN

# Shape legend: M = rows, F = features, K = knots, S = rows of the sample.

NUM_KNOTS = 33
SAMPLE = 4_096
FIRST_FIT = 256
REFIT_EVERY = 262_144
_WIDTH, _WIDTH_WITHOUT_ROOTS = 4, 2


def num_columns(num_features: int, *, has_roots: bool = True) -> int:
    """Return how many columns *num_features* features become."""
    return num_features * (_WIDTH if has_roots else _WIDTH_WITHOUT_ROOTS)


def normalised(
    values_MF: Float[np.ndarray, "M F"],
    knots_FK: Float[np.ndarray, "F K"],
    *,
    has_roots: bool = True,
) -> Float32[np.ndarray, "M C"]:
    """Return share, square, root and the flag of the unknown, feature by feature."""
    num_rows, num_features = values_MF.shape
    each = _WIDTH if has_roots else _WIDTH_WITHOUT_ROOTS
    columns = np.zeros((num_features * each, num_rows), np.float32)
    share_K = np.linspace(0.0, 1.0, knots_FK.shape[1])
    for feature, knots_K in enumerate(knots_FK):
        value_M = values_MF[:, feature]
        is_known_M = value_M != UNKNOWN
        share_M = np.where(is_known_M, np.interp(value_M, knots_K, share_K), 0.0)
        first = feature * each
        columns[first] = share_M
        if has_roots:
            columns[first + 1] = share_M * share_M
            columns[first + 2] = np.sqrt(share_M)
        columns[first + each - 1] = ~is_known_M
    return columns.T


class Quantiles:
    """The knots of each feature, from a sample of the stream."""

    def __init__(self, num_features: int, *, seed: int) -> None:
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._sample_SF = np.zeros((0, num_features), np.float32)
        self._num_seen = 0
        self._next_fit = FIRST_FIT
        self.knots_FK = np.tile(
            np.linspace(0.0, 1.0, NUM_KNOTS, dtype=np.float32), (num_features, 1)
        )

    def see(self, values_MF: Float32[np.ndarray, "M F"]) -> bool:
        """Take *values_MF* into the sample; return whether the knots have changed."""
        room = SAMPLE - len(self._sample_SF)
        self._sample_SF = np.concatenate([self._sample_SF, values_MF[: max(room, 0)]])
        for row in range(max(room, 0), len(values_MF)):
            place = int(self._rng.integers(self._num_seen + row + 1))
            if place < SAMPLE:
                self._sample_SF[place] = values_MF[row]
        self._num_seen += len(values_MF)
        if self._num_seen < self._next_fit:
            return False
        self._next_fit = min(2 * self._num_seen, self._num_seen + REFIT_EVERY)
        self._fit()
        return True

    def state(self) -> dict[str, np.ndarray]:
        """Return everything, for a checkpoint."""
        return {
            "sample_SF": self._sample_SF,
            "knots_FK": self.knots_FK,
            "counts": np.array([self._num_seen, self._next_fit], np.int64),
            "draw": _draw(self._rng),
        }

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: it is of other features.
        """
        if arrays["knots_FK"].shape != self.knots_FK.shape:
            raise ValueError(f"quantiles of other features: {arrays['knots_FK'].shape}")
        self._sample_SF, self.knots_FK = arrays["sample_SF"].copy(), arrays["knots_FK"].copy()
        self._num_seen, self._next_fit = map(int, arrays["counts"])
        _set_draw(self._rng, arrays["draw"])

    def _fit(self) -> None:
        share_K = np.linspace(0.0, 1.0, self.knots_FK.shape[1])
        for feature, value_S in enumerate(self._sample_SF.T):
            known = value_S[value_S != UNKNOWN]
            if len(known):
                knots_K = np.quantile(known, share_K)
                # np.interp wants them to go up: equal ones are moved apart by the least there is
                self.knots_FK[feature] = np.maximum.accumulate(knots_K).astype(np.float32)


def _draw(rng: np.random.Generator) -> Int64[np.ndarray, "n"]:
    state = rng.bit_generator.state
    words = [state["state"]["state"], state["state"]["inc"]]
    parts = [(word >> shift) & 0xFFFFFFFF for word in words for shift in (0, 32, 64, 96)]
    return np.array([*parts, state["has_uint32"], state["uinteger"]], np.int64)


def _set_draw(rng: np.random.Generator, parts: Int64[np.ndarray, "n"]) -> None:
    *words, has_uint32, uinteger = map(int, parts)
    numbers = [
        sum(part << (32 * place) for place, part in enumerate(words[first : first + 4]))
        for first in (0, 4)
    ]
    rng.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": numbers[0], "inc": numbers[1]},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
