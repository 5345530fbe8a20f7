"""The protocol of a learner; `trainer.learn.learner.Learner` implements it.

Column *n* of a similarity matrix and row *n* of a feature matrix belong to ``video_ids[n]``,
an order that only ever grows. A video taken down keeps its place and is masked by
``is_live_N``. Of the generations, `freeze` keeps the newest `models.training.frozen.NUM_FROZEN`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float, Float32

from contract.wire.events import VideoUpload
from models.bundle.bundle import Card
from models.features.examples import Example
from models.features.vocabulary import Vocabulary
from models.serving.items import ItemSnapshot
from models.serving.ranking import RankerParams
from models.training.replay import EncodedExamples
from models.training.sequence_training import Recipe
from trainer.evaluate.popularity import Viewing
from trainer.learn.histories import PastWatches

# Shape legend: B = examples, N = videos ever uploaded, n = some videos, D = width of a vector,
# F = ranking features.


class Learning(Protocol):
    """A model, its optimiser, and its dense half as frozen for the last generations."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The rows of the videos; the same object for as long as the learner lives."""
        ...

    @property
    def video_ids(self) -> list[str]:
        """Every video ever uploaded, in the order of its first upload."""
        ...

    @property
    def is_live_N(self) -> Bool[np.ndarray, "N"]:
        """False for those that were taken down."""
        ...

    @property
    def ranker_params(self) -> RankerParams:
        """How the served order is made of similarities."""
        ...

    def upload(self, upload: VideoUpload) -> bool:
        """Make a video known; return whether this changes what was known of it."""
        ...

    def remove(self, video_id: str) -> None:
        """Take a video down."""
        ...

    def forget(self, user_id: str) -> None:
        """Erase what is kept of one user."""
        ...

    def encode(self, examples: Sequence[Example]) -> EncodedExamples:
        """Encode the windows of *examples*, once for `similarity` and `learn`."""
        ...

    def similarity(self, encoded: EncodedExamples) -> Float32[np.ndarray, "B N"]:
        """Return the cosine of every user and every video, learning nothing."""
        ...

    def learn(self, encoded: EncodedExamples) -> float:
        """Learn from these examples and return the loss; one that is not finite changed nothing."""
        ...

    def learn_histories(
        self,
        histories: Sequence[PastWatches],
        recipe: Recipe,
        *,
        span_ms: int,
        most: int | None = None,
    ) -> None:
        """Learn what users watched in the *span_ms* before the stream, *most* of them at most."""
        ...

    def count(self, viewings: Sequence[Viewing]) -> None:
        """Take note of watches, completed or not, of examples that were learned from and others."""
        ...

    def turn_back(self, now_ms: int, *, latest_ms: int) -> bool:
        """Set the clocks to *now_ms* if they stand after *latest_ms*; return whether they did."""
        ...

    def freeze(self, generation: int) -> None:
        """Keep the dense half as it is now, under this generation."""
        ...

    def vectors(
        self, video_ids: Sequence[str], *, generation: int
    ) -> tuple[Float32[np.ndarray, "n D"], Float32[np.ndarray, "n D"]]:
        """Return input and output vectors: the frozen dense half, today's id embeddings."""
        ...

    def drain_touched(self) -> set[str]:
        """Return the videos whose vectors have moved since the last call."""
        ...

    def bundle_files(self) -> dict[str, bytes]:
        """Return towers and tables as `models.bundle.bundle.write` takes them, parity checked.

        Raises:
            BundleError: the exported towers compute something else.
        """
        ...

    def card(
        self,
        *,
        bundle_id: str,
        generation: int,
        offsets: Mapping[str, Mapping[str, int]],
        metrics: Mapping[str, float],
    ) -> Card:
        """Return what a bundle of this moment says of itself."""
        ...

    def snapshot(self, features_NF: Float[np.ndarray, "N F"]) -> ItemSnapshot:
        """Return the vectors of every live video, with its ranking features."""
        ...

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return everything that a restart needs: arrays, and what JSON can say."""
        ...

    def load_state(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Go on from what `state` returned.

        Raises:
            ValueError: it does not fit this learner.
        """
        ...
