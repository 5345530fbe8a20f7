"""What defines a retrieval model apart from its weights: widths, hashing, loss and learning.

The trainer is configured with it; what serving needs of it travels in the bundle's manifest.
"""

from dataclasses import dataclass, field

from models.examples import CompletionRule
from models.history import DAY_MS
from models.ranking import RankerParams

DIM = 64
"""Width of item input vectors, item output vectors and user vectors alike: they share a space."""


@dataclass(frozen=True, slots=True)
class RetrieverConfig:
    """The YouTube DNN, sized for seconds of data on a fifth of one core.

    One optimiser step is taken for every ``examples_per_step`` new examples, at least one for a
    batch; each is over the whole batch and ``num_replayed`` examples drawn from the newest
    ``replay_size`` ones. With these values a replay of KuaiRand from cold takes 1.7 ms of CPU for
    each example, scoring included (measured 2026-11-22, one thread of a busy 2-core machine).
    """

    model: str = "youtube_dnn"
    dim: int = DIM
    hidden_dim: int = 128
    context_dim: int = 8
    content_buckets: int = 16_384
    context_buckets: int = 512
    num_negatives: int = 1_024
    examples_per_step: int = 16
    num_replayed: int = 192
    replay_size: int = 8_192
    popularity_offset: float = 0.0
    dense_lr: float = 3e-3
    id_lr: float = 0.05
    content_lr: float = 0.005
    max_grad_norm: float = 10.0
    frequency_half_life_ms: int = DAY_MS
    num_generations: int = 3
    ranker: RankerParams = field(default_factory=RankerParams)
    completion: CompletionRule = field(default_factory=CompletionRule)

    def __post_init__(self) -> None:
        for name in ("dim", "hidden_dim", "context_dim", "num_negatives", "examples_per_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("content_buckets", "context_buckets"):
            if getattr(self, name) < 2:  # noqa: PLR2004 - row 0 means nothing, so one more
                raise ValueError(f"{name} must be at least 2, got {getattr(self, name)}")

    @property
    def temperature(self) -> float:
        """What similarities are divided by, in the loss and in the ranker alike."""
        return self.ranker.temperature
