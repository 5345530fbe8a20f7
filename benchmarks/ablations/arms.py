"""The table of ablations; each arm lists only what differs from the default.

The first arm of each is what the others are compared with. Arms differ in nothing but what they
say: the same log in the same order, the same seeds, the same defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from models.history.history import WindowPolicy
from models.training.config import TowerConfig
from models.training.losses import HIERARCHICAL

KUAIRAND, ML1M = "kuairand", "ml1m"


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train.

    Args:
        config: what of `TowerConfig` is different from the model's own.
        max_watches: the bound of every history window.
        max_slices: of one user in an epoch, in sequence training.
        start: what the id embeddings start from: ``nothing``, ``item2vec`` or ``cooccurrence``;
            None for what the model is used to.
        is_ranked_by_probability: by the model's own probabilities instead of inner products.
    """

    name: str
    config: Mapping[str, object] = field(default_factory=dict)
    max_watches: int = 50
    max_slices: int | None = None
    start: str | None = None
    is_ranked_by_probability: bool = False

    @property
    def model(self) -> str:
        """The name of the model."""
        return str(self.config.get("model", "youtube_dnn"))

    @property
    def policy(self) -> WindowPolicy:
        """What a window remembers."""
        return WindowPolicy(max_watches=self.max_watches)

    def of(self, config: TowerConfig) -> TowerConfig:
        """Return *config*, with what is different in this arm."""
        return replace(config, **self.config)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Ablation:
    """A question, the logs on which it can be asked, and the arms that answer it."""

    question: str
    data: tuple[str, ...]
    arms: tuple[Arm, ...]


_BOTH = (KUAIRAND, ML1M)
_NO_SIGNALS = {"has_live_signals": False}
"""Live signals rank for every loss alike, and hide what it does to popular videos."""

_BY_FREQUENCY = {
    **_NO_SIGNALS,
    "negatives": "frequency",
    "sample_alpha": 0.75,
    "num_negatives": 512,
}
_IN_BATCH = {**_NO_SIGNALS, "negatives": "in_batch"}
_UNCORRECTED = {"is_importance_corrected": False}

ABLATIONS: dict[str, Ablation] = {
    "example_age": Ablation(
        "Is the age of an example worth telling while training?",
        (KUAIRAND,),
        (
            Arm("example age"),
            Arm("no example age", {"has_example_age": False}),
            Arm("example age, no live signals", _NO_SIGNALS),
            Arm("no example age, no live signals", {**_NO_SIGNALS, "has_example_age": False}),
        ),
    ),
    "pooling": Ablation(
        "Does it matter in which order things were watched?",
        _BOTH,
        (
            Arm("means over the last 50, 5 and 1"),
            Arm("mean over the last 50", {"pools": (50,)}),
            Arm("LSTM with max pooling", {"model": "youtube_lstm"}),
        ),
    ),
    "importance_correction": Ablation(
        "What if log q stays in the logits of negatives drawn by popularity?",
        (KUAIRAND,),
        (
            Arm("drawn by count^0.75, corrected", _BY_FREQUENCY),
            Arm("drawn by count^0.75, not corrected", _BY_FREQUENCY | _UNCORRECTED),
            Arm("in-batch, corrected", _IN_BATCH),
            Arm("in-batch, not corrected", _IN_BATCH | _UNCORRECTED),
        ),
    ),
    "output": Ablation(
        "Which loss?",
        (KUAIRAND,),
        (
            Arm("sampled softmax", _NO_SIGNALS),
            Arm("noise contrastive estimation", {**_NO_SIGNALS, "loss": "nce"}),
            Arm("hierarchical softmax, by inner product", {**_NO_SIGNALS, "loss": HIERARCHICAL}),
            Arm(
                "hierarchical softmax, by its probabilities",
                {**_NO_SIGNALS, "loss": HIERARCHICAL},
                is_ranked_by_probability=True,
            ),
            Arm("gBCE", {**_NO_SIGNALS, "loss": "gbce"}),
            Arm("BPR-max", {**_NO_SIGNALS, "loss": "bpr_max", "negatives": "frequency"}),
        ),
    ),
    "item2vec": Ablation(
        "Do embeddings that know what goes together save time?",
        _BOTH,
        (
            Arm("started from nothing", start="nothing"),
            Arm("started from item2vec", start="item2vec"),
            Arm("started from factorised co-occurrence", start="cooccurrence"),
        ),
    ),
    "per_user_cap": Ablation(
        "Should heavy watchers own the loss?",
        _BOTH,
        (
            Arm("no cap"),
            Arm("10 examples, or 2 slices, of a user", {"max_per_user": 10}, max_slices=2),
            Arm("3 examples, or 1 slice, of a user", {"max_per_user": 3}, max_slices=1),
        ),
    ),
    "rare_ids": Ablation(
        "Should a video have an id embedding before it was watched some times?",
        _BOTH,
        (
            Arm("from the first watch on"),
            Arm("from the 3rd watch on", {"min_id_count": 3}),
            Arm("from the 10th watch on", {"min_id_count": 10}),
            Arm("from the 50th watch on", {"min_id_count": 50}),
        ),
    ),
    "replay": Ablation(
        "Is a second look at older examples worth it?",
        (KUAIRAND,),
        (
            Arm("none replayed"),
            Arm("192 of 8,192 replayed with each 16", {"num_replayed": 192}),
            Arm("none replayed, no live signals", _NO_SIGNALS),
            Arm("192 replayed, no live signals", {**_NO_SIGNALS, "num_replayed": 192}),
        ),
    ),
    "window_length": Ablation(
        "How much history does a user vector need?",
        _BOTH,
        tuple(Arm(f"{most} watches", max_watches=most) for most in (50, 20, 10, 5)),
    ),
    "width": Ablation(
        "How wide should vectors be?",
        _BOTH,
        tuple(Arm(f"{dim} dimensions", {"dim": dim}) for dim in (64, 16, 32, 128)),
    ),
}
