"""Configure a two-tower model: widths, hashing, loss and learning rates.

The trainer is configured with it; what serving needs of it travels in the bundle's manifest.
"""

import math
from dataclasses import dataclass, field

from models.features.examples import CompletionRule
from models.features.vocabulary import MAX_VIDEOS
from models.history.history import DAY_MS
from models.serving.ranking import RankerParams

DIM = 64
"""Width of item input vectors, item output vectors and user vectors alike: they share a space."""

_AT_LEAST = {
    0: ("min_id_count", "num_replayed", "sample_alpha", "first_moment"),
    1: ("dim", "hidden_dim", "context_dim", "num_negatives", "examples_per_step", "num_bands",
        "id_expiry_ms", "max_videos", "replay_size", "frequency_half_life_ms"),
    2: ("content_buckets", "context_buckets"),  # row 0 means nothing, so one more
}  # fmt: skip
_ABOVE_ZERO = {
    1.0: ("lr_share_after_histories", "id_moment_decay", "content_moment_decay"),
    10.0: ("dense_lr", "id_lr", "content_lr"),
    math.inf: ("max_grad_norm", "max_row_grad_norm"),
}
_MOST = 2**53
"""The largest count or time: JSON and float64 have no larger integers one by one."""


@dataclass(frozen=True, slots=True)
class TowerConfig:
    """The configuration of a two-tower model; the defaults are those of the YouTube DNN.

    One optimiser step is taken for every ``examples_per_step`` new examples, and of a batch of more
    than four times as many for a quarter of it; each is over these and ``num_replayed`` drawn from
    the newest ``replay_size`` ones. None is replayed by default. Measured on KuaiRand, the first
    20,000 exposures from cold: recall@100 .313 with none and .230 with 192, without live signals
    .293 and .258 (``python -m benchmarks.ablations replay --data kuairand:DIR --exposures 20000``).
    Why is not known; with live signals an old label has those of before its watch, and all other
    videos those of today.

    With ``has_live_signals`` item vectors carry how often a video was watched of late, and user
    vectors what this user gives for it (models/serving/live_signals.py). After histories were
    learned, streaming goes on at ``lr_share_after_histories`` of the learning rates: a step that
    teaches a new model its first pattern makes one that knows its catalogue forget. The share was
    chosen on the first 16,000 exposures of KuaiRand after histories, one seed, one replayed: .1 was
    a little above .3 and above learning nothing.

    A video's id embedding learns nothing before the video was watched ``min_id_count`` times:
    until then it is what its content says (the rare-id filter, models/training/embedding_table.py),
    and again once nobody has watched it for ``id_expiry_ms`` of event time. ``max_videos`` bounds
    the rows of all tables (models/features/vocabulary.py).

    ``first_moment`` is what the Adagrad sums of the embeddings start from; what is left of a sum
    after an update by a larger gradient is ``id_moment_decay`` or, for words, which are in every
    step, ``content_moment_decay`` (models/training/embedding_table.py). The mean squared gradient
    of a label is some 4e-4 at first and 2e-4 later, that of a drawn negative 5e-8 (KuaiRand, 6,000
    exposures from cold).
    """

    model: str = "youtube_dnn"
    dim: int = DIM
    hidden_dim: int = 128
    pools: tuple[int, ...] = (50, 5, 1)
    context_dim: int = 8
    content_buckets: int = 16_384
    context_buckets: int = 512
    loss: str = "sampled_softmax"
    is_importance_corrected: bool = True
    negatives: str = "uniform"
    num_negatives: int = 1_024
    sample_alpha: float = 0.5
    num_bands: int = 64
    has_example_age: bool = True
    has_live_signals: bool = True
    max_per_user: int | None = None
    min_id_count: int = 1
    id_expiry_ms: int = 90 * DAY_MS
    max_videos: int = MAX_VIDEOS
    examples_per_step: int = 16
    num_replayed: int = 0
    replay_size: int = 8_192
    dense_lr: float = 3e-3
    id_lr: float = 0.05
    content_lr: float = 0.005
    lr_share_after_histories: float = 0.1
    max_grad_norm: float = 10.0
    first_moment: float = 1e-5
    id_moment_decay: float = 0.95
    content_moment_decay: float = 0.999
    max_row_grad_norm: float = 1.0
    frequency_half_life_ms: int = DAY_MS
    ranker: RankerParams = field(default_factory=RankerParams)
    completion: CompletionRule = field(default_factory=CompletionRule)

    def __post_init__(self) -> None:
        if not self.pools or min(self.pools) < 1:
            raise ValueError(f"pools must be counts of watches, got {self.pools}")
        if self.max_per_user is not None and self.max_per_user < 1:
            raise ValueError(f"max_per_user must be at least 1, got {self.max_per_user}")
        for least, names in _AT_LEAST.items():
            for name in names:
                value = getattr(self, name)
                if not least <= value <= _MOST:
                    raise ValueError(f"{name} must be in [{least}, {_MOST}], got {value}")
        if self.num_replayed > self.replay_size:
            raise ValueError(
                f"num_replayed must be at most replay_size ({self.replay_size}), "
                f"got {self.num_replayed}"
            )
        for most, names in _ABOVE_ZERO.items():
            for name in names:
                value = getattr(self, name)
                if not 0.0 < value <= most or value == math.inf:
                    bounds = "above 0" if most == math.inf else f"in (0, {most:g}]"
                    raise ValueError(f"{name} must be {bounds}, got {value}")

    @property
    def temperature(self) -> float:
        """What similarities are divided by, in the loss and in the ranker alike."""
        return self.ranker.temperature
