"""Validate progressively: score examples before learning from them.

Every example is scored where the budget (`trainer.evaluate.sample`) allows it, else a sample that
is drawn uniformly from its batch and stands for all of it: each of n drawn ones of N examples
counts N / n times. So recalls are those of all examples, or unbiased estimates of them, and
``progressive_examples`` counts the ones that were scored.

For each example the whole catalogue is ranked for its user, without the videos of the user's
window, and the rank of the video that was in fact watched is noted. Three ways of ranking run
side by side: what is served (`models.serving.ranking.Ranker`), similarity alone, and the decayed
popularity that any recommender has to beat. Nothing here may use what was learned or counted
from the batch being scored, or from anything later: score first.

Never on sampled negatives: against a sample the same model looks three times as good
(Krichene and Rendle, On Sampled Metrics for Item Recommendation, KDD 2020).
"""

from collections import deque
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Integer

from models.features.examples import Example
from models.serving.ranking import Ranker
from trainer.evaluate.popularity import Popularity

# Shape legend: B = scored examples, N = videos ever uploaded, M = measures: systems x cutoffs,
# K = cutoffs.

SYSTEMS = ("progressive", "retrieval", "popularity")
CUTOFFS = (20, 100)
MEASURES = tuple(f"{system}_recall_at_{k}" for system in SYSTEMS for k in CUTOFFS)
NUM_RECENT = 2_000
_BELOW_ANY_COSINE = -2.0


class Progressive:
    """Recall of three rankings, over everything and over the newest scored examples."""

    def __init__(self, ranker: Ranker) -> None:
        self._ranker = ranker
        self.num_examples = 0
        self._weight = 0.0
        self._total_M = np.zeros(len(MEASURES))
        self._recent: deque[list[float]] = deque(maxlen=NUM_RECENT)

    def score(
        self,
        examples: Sequence[Example],
        similarity_BN: Float[np.ndarray, "B N"],
        is_live_N: Bool[np.ndarray, "N"],
        items: Popularity,
        *,
        stand_for: int | None = None,
    ) -> None:
        """Note the rank of each example's video; column n of the matrix is row n + 1.

        The examples are all of their batch, or a uniform draw that *stand_for* so many.
        """
        columns_B = items.vocabulary.rows([one.video_id for one in examples]) - 1
        seen = [_seen(example, items) for example in examples]
        similarity_BN = np.nan_to_num(similarity_BN, nan=_BELOW_ANY_COSINE)
        similarity_BN[:, ~is_live_N] = -np.inf
        for score_N, seen_columns in zip(similarity_BN, seen, strict=True):
            score_N[seen_columns] = -np.inf
        retrieval_BM = hits(similarity_BN, columns_B)
        served_BM = retrieval_BM
        if self._ranker.adds_terms:
            served_BN = self._ranker.order(similarity_BN, items)
            served_BM = hits(served_BN, columns_B)
        baseline_N = np.where(is_live_N, items.baseline_N[1:], -np.inf)
        popularity_BM = _popular(baseline_N, columns_B, seen)
        hits_BM = np.concatenate([served_BM, retrieval_BM, popularity_BM], axis=1)
        weight = (stand_for or len(examples)) / max(len(examples), 1)
        self.num_examples += len(examples)
        self._weight += weight * len(examples)
        self._total_M += weight * hits_BM.sum(axis=0)
        self._recent.extend([weight, *row] for row in hits_BM.tolist())

    def metrics(self) -> dict[str, float]:
        """Return the recalls over everything, over the newest (``recent_...``), and the count."""
        overall_M = self._total_M / max(self._weight, 1.0)
        recent = self._recent_rows()
        weight_B = recent[:, 0]
        recent_M = weight_B @ recent[:, 1:] / max(float(weight_B.sum()), 1.0)
        metrics = dict(zip(MEASURES, overall_M.tolist(), strict=True))
        metrics |= {
            f"recent_{name}": value for name, value in zip(MEASURES, recent_M.tolist(), strict=True)
        }
        return metrics | {"progressive_examples": float(self.num_examples)}

    def state(self) -> dict[str, np.ndarray]:
        """Return the tallies, for a checkpoint."""
        return {
            "total": self._total_M.copy(),
            "num_examples": np.array([self.num_examples], np.int64),
            "weight": np.array([self._weight]),
            "recent": self._recent_rows(),
        }

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
        self._total_M = arrays["total"].copy()
        self.num_examples = int(arrays["num_examples"][0])
        recent = arrays["recent"]
        if recent.shape[1:] == (len(MEASURES),):  # 0.2 scored every example
            recent = np.concatenate([np.ones((len(recent), 1)), recent], axis=1)
        self._weight = float(arrays["weight"][0]) if "weight" in arrays else self.num_examples
        self._recent = deque(recent.tolist(), maxlen=NUM_RECENT)

    def _recent_rows(self) -> Float64[np.ndarray, "n M+1"]:
        """Return the newest scored examples: how many each stands for, and its hits."""
        return np.array(list(self._recent)).reshape(-1, 1 + len(MEASURES))


def hits(
    score_BN: Float[np.ndarray, "B N"], columns_B: Integer[np.ndarray, "B"]
) -> Float64[np.ndarray, "B K"]:
    """Return how likely each label column is among the best `CUTOFFS` when ties are drawn by lot.

    Without it, a model that scores everything alike would have every label on the first place,
    or none. What cannot be recommended scores -inf.
    """
    label_B1 = np.take_along_axis(score_BN, columns_B[:, None].astype(np.intp), axis=1)
    num_better_B = np.count_nonzero(score_BN > label_B1, axis=1)
    num_equal_B = np.count_nonzero(score_BN == label_B1, axis=1)
    return _chances(num_better_B, num_equal_B)


def _popular(
    baseline_N: Float[np.ndarray, "N"],
    columns_B: Integer[np.ndarray, "B"],
    seen: Sequence[Integer[np.ndarray, "n"]],
) -> Float64[np.ndarray, "B K"]:
    """Return `hits` of one order for everybody, without what each has *seen*."""
    counts = []
    for column, seen_columns in zip(columns_B.tolist(), seen, strict=True):
        label, of_seen = baseline_N[column], baseline_N[seen_columns]
        better = np.count_nonzero(baseline_N > label) - np.count_nonzero(of_seen > label)
        equal = np.count_nonzero(baseline_N == label) - np.count_nonzero(of_seen == label)
        counts.append((better, equal))
    num_better_B, num_equal_B = np.array(counts, np.int64).reshape(-1, 2).T
    return _chances(num_better_B, num_equal_B)


def _chances(
    num_better_B: Integer[np.ndarray, "B"], num_equal_B: Integer[np.ndarray, "B"]
) -> Float64[np.ndarray, "B K"]:
    cutoffs_1K = np.array(CUTOFFS)[None, :]
    chance_BK: np.ndarray = np.clip(
        (cutoffs_1K - num_better_B[:, None]) / np.maximum(num_equal_B, 1)[:, None], 0.0, 1.0
    )
    return chance_BK


def _seen(example: Example, items: Popularity) -> Integer[np.ndarray, "n"]:
    """Return the columns of the videos in the window of *example*, which are not recommended."""
    rows = items.vocabulary.rows(list(dict.fromkeys(example.window.video_ids)))
    return rows[rows > 0] - 1
