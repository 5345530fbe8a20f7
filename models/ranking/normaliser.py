"""Learn from the stream the quantiles by which continuous features are normalised.

`models.serving.normaliser` says what is made of them, in training as in serving.

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
from jaxtyping import Float32, Int64

from models.features.ranking_features import UNKNOWN
from models.serving.normaliser import Normaliser

# Shape legend: M = rows, F = features, K = knots, S = rows of the sample.

NUM_KNOTS = 33
SAMPLE = 4_096
FIRST_FIT = 256
REFIT_EVERY = 262_144
_WIDTH, _WIDTH_WITHOUT_ROOTS = 4, 2


def num_columns(num_features: int, *, has_roots: bool = True) -> int:
    """Return how many columns *num_features* features become."""
    return num_features * (_WIDTH if has_roots else _WIDTH_WITHOUT_ROOTS)


class Quantiles:
    """The knots of each feature, from a sample of the stream."""

    def __init__(self, num_features: int, *, seed: int, has_roots: bool = True) -> None:
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._sample_SF = np.zeros((0, num_features), np.float32)
        self._num_seen = 0
        self._next_fit = FIRST_FIT
        self.knots_FK = np.tile(
            np.linspace(0.0, 1.0, NUM_KNOTS, dtype=np.float32), (num_features, 1)
        )
        self._has_roots = has_roots
        self._normaliser = Normaliser(self.knots_FK, has_roots=has_roots)

    def normalised(self, values_MF: Float32[np.ndarray, "M F"]) -> Float32[np.ndarray, "M C"]:
        """Return *values_MF* normalised, in the blocks of columns of `Normaliser`."""
        return self._normaliser.apply(np.ascontiguousarray(values_MF.T, np.float32)).T

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
        """Return copies of everything, for a checkpoint."""
        return {
            "sample_SF": self._sample_SF.copy(),
            "knots_FK": self.knots_FK.copy(),
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
        self._normaliser = Normaliser(self.knots_FK, has_roots=self._has_roots)
        _set_draw(self._rng, arrays["draw"])

    def _fit(self) -> None:
        share_K = np.linspace(0.0, 1.0, self.knots_FK.shape[1])
        for feature, value_S in enumerate(self._sample_SF.T):
            known = value_S[value_S != UNKNOWN]
            if len(known):
                knots_K = np.quantile(known, share_K)
                self.knots_FK[feature] = np.maximum.accumulate(knots_K).astype(np.float32)
        self._normaliser = Normaliser(self.knots_FK, has_roots=self._has_roots)


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
