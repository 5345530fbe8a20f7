"""Validate progressively: score every example before learning from it.

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

# Shape legend: B = examples, N = videos ever uploaded, M = measures: systems x cutoffs.

SYSTEMS = ("progressive", "retrieval", "popularity")
CUTOFFS = (20, 100)
MEASURES = tuple(f"{system}_recall_at_{k}" for system in SYSTEMS for k in CUTOFFS)
NUM_RECENT = 2_000
_BELOW_ANY_COSINE = -2.0


class Progressive:
    """Recall of three rankings, over everything and over the newest examples."""

    def __init__(self, ranker: Ranker) -> None:
        self._ranker = ranker
        self.num_examples = 0
        self._total_M = np.zeros(len(MEASURES))
        self._recent: deque[list[float]] = deque(maxlen=NUM_RECENT)

    def score(
        self,
        examples: Sequence[Example],
        similarity_BN: Float[np.ndarray, "B N"],
        is_live_N: Bool[np.ndarray, "N"],
        items: Popularity,
    ) -> None:
        """Note the rank of each example's video; column n of the matrices is row n + 1."""
        labels_B = items.vocabulary.rows([example.video_id for example in examples])
        rows_BN = _candidates(examples, is_live_N, items)
        is_there_BN = rows_BN > 0
        similarity_BN = np.nan_to_num(similarity_BN, nan=_BELOW_ANY_COSINE)
        _, served_BN = self._ranker.scores(similarity_BN, rows_BN, items)
        scores = (
            served_BN,
            np.where(is_there_BN, similarity_BN, -np.inf),
            np.where(is_there_BN, items.baseline_N[rows_BN], -np.inf),
        )
        hits_BM = np.stack(
            [hits(score_BN, labels_B - 1, k) for score_BN in scores for k in CUTOFFS], axis=1
        )
        self.num_examples += len(examples)
        self._total_M += hits_BM.sum(axis=0)
        self._recent.extend(hits_BM.tolist())

    def metrics(self) -> dict[str, float]:
        """Return the recalls over everything, over the newest (``recent_...``), and the count."""
        overall_M = self._total_M / max(self.num_examples, 1)
        recent_M = np.array(list(self._recent) or [[0.0] * len(MEASURES)]).mean(axis=0)
        metrics = dict(zip(MEASURES, overall_M.tolist(), strict=True))
        metrics |= {
            f"recent_{name}": value for name, value in zip(MEASURES, recent_M.tolist(), strict=True)
        }
        return metrics | {"progressive_examples": float(self.num_examples)}

    def state(self) -> dict[str, np.ndarray]:
        """Return the tallies, for a checkpoint."""
        recent = np.array(list(self._recent)).reshape(-1, len(MEASURES))
        return {
            "total": self._total_M.copy(),
            "num_examples": np.array([self.num_examples], np.int64),
            "recent": recent,
        }

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
        self._total_M = arrays["total"].copy()
        self.num_examples = int(arrays["num_examples"][0])
        self._recent = deque(arrays["recent"].tolist(), maxlen=NUM_RECENT)


def hits(
    score_BN: Float[np.ndarray, "B N"], labels_B: Integer[np.ndarray, "B"], k: int
) -> Float64[np.ndarray, "B"]:
    """Return how likely each label column is among the best *k* when ties are drawn by lot.

    Without it, a model that scores everything alike would have every label on the first place,
    or none.
    """
    label_B1 = np.take_along_axis(score_BN, labels_B[:, None].astype(np.intp), axis=1)
    num_better_B = (score_BN > label_B1).sum(axis=1)
    num_equal_B = (score_BN == label_B1).sum(axis=1)
    chance_B: np.ndarray = np.clip((k - num_better_B) / num_equal_B, 0.0, 1.0)
    return chance_B


def _candidates(
    examples: Sequence[Example], is_live_N: Bool[np.ndarray, "N"], items: Popularity
) -> Integer[np.ndarray, "B N"]:
    """Return the rows that may be recommended, by column; 0 for what is seen or taken down."""
    live_N = np.where(is_live_N, np.arange(1, len(is_live_N) + 1), 0)
    rows_BN = np.repeat(live_N[None, :], len(examples), axis=0)
    for candidates_N, example in zip(rows_BN, examples, strict=True):
        seen = items.vocabulary.rows(example.window.video_ids)
        candidates_N[seen[seen > 0] - 1] = 0
    return rows_BN
