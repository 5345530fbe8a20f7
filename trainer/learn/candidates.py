"""Choose the candidates of one training step: a draw of the catalogue, and the labels.

With each come the corrections that a loss takes off or puts on (models/training/losses.py,
models/training/negatives.py), and the live signals of this moment.
"""

import math

import numpy as np
from jaxtyping import Integer

from models.features.vocabulary import Vocabulary
from models.serving.live_signals import LiveSignals
from models.training.config import TowerConfig
from models.training.hierarchical_softmax import bands
from models.training.label_frequency import LabelFrequency
from models.training.losses import HIERARCHICAL
from models.training.negatives import NegativeDraw
from models.training.two_tower import StepCandidates

# Shape legend: B = examples, N = videos that may be recommended, C = candidates of a step.


class CandidateDraw:
    """Draws the candidates of a step as configured."""

    def __init__(self, config: TowerConfig) -> None:
        self._config = config
        self._negatives = NegativeDraw(
            config.negatives, num_negatives=config.num_negatives, alpha=config.sample_alpha
        )

    def candidates(
        self,
        rng: np.random.Generator,
        label_rows_B: Integer[np.ndarray, "B"],
        vocabulary: Vocabulary,
        frequency: LabelFrequency,
        signals: LiveSignals,
    ) -> StepCandidates:
        """Return drawn videos and the labels of the batch, each once."""
        config = self._config
        is_live_N, num_labels = vocabulary.is_live_N, len(label_rows_B)
        if config.negatives == "uniform":
            drawn = self._negatives.uniform_rows(rng, is_live_N)
            rows_C = np.union1d(drawn, label_rows_B)
            share_C, num_live = frequency.shares(rows_C), int(np.count_nonzero(is_live_N))
            log_q_C = self._negatives.uniform_log_q(
                share_C, num_live=num_live, num_labels=num_labels
            )
        else:
            live_N = np.flatnonzero(is_live_N) + 1
            count_N = frequency.counts(live_N)
            rows_C = np.union1d(self._negatives.rows(rng, live_N, count_N), label_rows_B)
            log_q_C = self._negatives.log_q(
                *(frequency.counts(rows_C), frequency.shares(rows_C), count_N),
                num_labels=num_labels,
            )
        band_C = None
        if config.loss == HIERARCHICAL:
            count_N = frequency.count_N[: len(vocabulary) + 1]
            num_bands = min(config.num_bands, math.isqrt(len(count_N)))
            band_C = bands(count_N, num_bands=num_bands)[rows_C]
        return StepCandidates(
            rows_C,
            log_q_C.astype(np.float32),
            band_C,
            signals.signals(rows_C) if config.has_live_signals else None,
        )
