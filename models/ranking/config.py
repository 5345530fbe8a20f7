"""Configure a ranker: which heads it has, its widths, its learning rates."""

import math
from dataclasses import dataclass

HEADS = ("weighted_logistic", "distribution")
"""How watch time is predicted; see `models.ranking.heads`."""


@dataclass(frozen=True, slots=True)
class RankerConfig:
    """The configuration of a ranker.

    ``has_factors`` adds the products of a video with all fields of the context, not the surface
    alone (DeepFM). ``has_roots`` adds the square and the square root of each normalised value
    (Covington et al. 2016, section 4.1). ``is_weighted`` weighs positives by their watch time
    (section 4.2). ``max_watch_s`` caps watch times: one forgotten player must not outweigh a day.
    ``retrieval_weight`` is what retrieval's logit counts beside the logarithm of the expected
    watch time in the served order (`models.serving.ranking.blended_score`): 2 is the smallest that
    costs no measurable recall over the whole catalogue (docs/experiments.md, 2026-11-26).
    """

    name: str = "expected_watch_time"
    watch_head: str = "weighted_logistic"
    dim: int = 16
    hidden: tuple[int, ...] = (64, 32)
    has_embeddings: bool = True
    has_factors: bool = False
    has_roots: bool = True
    is_weighted: bool = True
    buckets: int = 8_192
    dense_lr: float = 5e-4
    table_lr: float = 0.02
    history_lr: float = 2e-3
    table_penalty: float = 5e-3
    dropout: float = 0.0
    history_passes: int = 2
    max_watch_s: float = 300.0
    retrieval_weight: float = 2.0

    def __post_init__(self) -> None:
        if self.watch_head not in HEADS:
            raise ValueError(f"watch_head is one of {HEADS}, got {self.watch_head!r}")
        if self.dim < 1 or self.buckets < 2 or min(self.hidden, default=1) < 1:  # noqa: PLR2004
            raise ValueError(f"widths must be positive, got {self}")
        for name in ("dense_lr", "table_lr", "history_lr", "max_watch_s"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("table_penalty", "retrieval_weight", "history_passes"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")


RANKERS = {
    config.name: config
    for config in (
        RankerConfig(name="logistic_regression", has_embeddings=False, hidden=(), dropout=0.0),
        RankerConfig(),
        RankerConfig(name="deepfm", has_factors=True, watch_head="distribution"),
        RankerConfig(name="watch_time_distribution", watch_head="distribution"),
    )
}
"""The rankers by name; `expected_watch_time` is the default."""
