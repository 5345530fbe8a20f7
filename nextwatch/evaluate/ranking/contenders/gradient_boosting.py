"""Score by LightGBM on live features, retrained at the beginning of each day that is scored.

Three boosted models: of the probability, of the mean watch time, and of its median. Rows are the
features as they were when the exposure was scored live. Before the first day is over there is
nothing to train on, and shares of the histories are the score.

Source:
    Ke et al., LightGBM: A Highly Efficient Gradient Boosting Decision Tree, NIPS 2017
"""

import copy
from typing import Any, Self

import numpy as np
from jaxtyping import Float64

from contract.errors import DatasetError
from nextwatch.evaluate.ranking.contender import Exposures, Outcomes, RankTraining, Scores
from nextwatch.evaluate.ranking.live_features import LiveFeatures, categories, day_of
from nextwatch.evaluate.ranking.watch_time import WatchByDuration

# Shape legend: B = exposures of a batch, F = features.

_LEAST_ROWS = 100
_ROUNDS = 400
_PARAMETERS: dict[str, Any] = {
    "learning_rate": 0.03,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 20.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
_OBJECTIVES = ("binary", "regression", "regression_l1")


class GradientBoosting:
    """Boosted trees by LightGBM, of the state of counters."""

    def __init__(self, seed: int = 0) -> None:
        self._lightgbm = _lightgbm()
        self._seed = seed
        self._features: LiveFeatures | None = None
        self._names: list[str] = []
        self._rows: list[np.ndarray] = []
        self._outcomes: list[Outcomes] = []
        self._watch = WatchByDuration()
        self._models: list[Any] = []
        self._num_trained = self._num_rows = 0
        self._day = -1
        self._last: tuple[Exposures, np.ndarray] | None = None

    def prepare(self, training: RankTraining) -> None:
        """Count the histories."""
        self._features = LiveFeatures(training)

    def hold_own_state(self) -> None:
        """Keep the users' own rates."""
        self._state.hold()

    def score(self, exposures: Exposures, *, is_own_still: bool) -> Scores:
        """Return what the models say; they are trained first if a day has begun."""
        if day_of(exposures) != self._day:
            self._day = day_of(exposures)
            self._train()
        row_BF = self._state.matrix(exposures, is_own_still=is_own_still)
        if not is_own_still:
            self._last = exposures, row_BF
        if not self._models:
            return self._untrained(exposures)
        p_B, mean_B, median_B = (model.predict(row_BF) for model in self._models)
        return Scores(p_B, np.maximum(mean_B, 0.0), np.maximum(median_B, 0.0))

    def observe(self, exposures: Exposures, outcomes: Outcomes) -> None:
        """Keep the rows for training, then count."""
        is_known = self._last is not None and self._last[0] is exposures
        row_BF = self._last[1] if self._last is not None and is_known else None
        if row_BF is None:
            row_BF = self._state.matrix(exposures, is_own_still=False)
        self._rows.append(row_BF)
        self._outcomes.append(outcomes)
        self._num_rows += len(exposures.user_B)
        self._watch.add(exposures.duration_ms_B, outcomes.is_positive_B, outcomes.watch_s_B)
        self._state.observe(exposures, outcomes)

    def frozen(self) -> Self:
        """Return a copy that is trained on all that was observed, and needs no rows."""
        self._train()
        kept = self._rows, self._outcomes
        self._rows, self._outcomes = [], []
        twin = copy.deepcopy(self)
        self._rows, self._outcomes = kept
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = type(self)(self._seed)
        for name, value in vars(self).items():
            if name not in ("_lightgbm", "_models"):
                setattr(twin, name, copy.deepcopy(value, memo))
        twin._models = list(self._models)  # noqa: SLF001 - of the same class; they never change
        return twin

    @property
    def _state(self) -> LiveFeatures:
        assert self._features is not None, "prepare comes first"
        return self._features

    def _untrained(self, exposures: Exposures) -> Scores:
        found = self._state.named(exposures, is_own_still=True)
        odds_B = _odds(found["history_video"]) * _odds(found["history_user"])
        p_B = odds_B / (1.0 + odds_B)
        return Scores(p_B, self._watch.expected_s(p_B, exposures.duration_ms_B))

    def _train(self) -> None:
        if self._num_rows < _LEAST_ROWS or self._num_rows == self._num_trained or not self._rows:
            return
        self._num_trained = self._num_rows
        rows = np.concatenate(self._rows)
        self._rows = [rows]
        positive = np.concatenate([one.is_positive_B for one in self._outcomes])
        watch_s = np.concatenate([one.watch_s_B for one in self._outcomes])
        labels = (positive.astype(np.float64), watch_s, watch_s)
        self._models = [
            self._fit(rows, label, objective)
            for label, objective in zip(labels, _OBJECTIVES, strict=True)
        ]

    def _fit(self, rows: np.ndarray, label: Float64[np.ndarray, "E"], objective: str) -> Any:
        dataset = self._lightgbm.Dataset(
            rows, label, categorical_feature=categories(self._column_names())
        )
        parameters = {**_PARAMETERS, "objective": objective, "seed": self._seed}
        return self._lightgbm.train(parameters, dataset, _ROUNDS)

    def _column_names(self) -> list[str]:
        if not self._names:
            nothing = Exposures(*(np.zeros(0, np.int64) for _ in Exposures._fields))
            self._names = list(self._state.named(nothing, is_own_still=True))
        return self._names


def _odds(p_B: Float64[np.ndarray, "B"]) -> Float64[np.ndarray, "B"]:
    odds_B: np.ndarray = p_B / (1.0 - p_B)
    return odds_B


def _lightgbm() -> Any:
    try:
        import lightgbm  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise DatasetError(
            f"lightgbm needs {error.name}: pip install 'nextwatch[evaluate]'"
        ) from None
    return lightgbm
