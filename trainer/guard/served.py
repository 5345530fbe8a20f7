"""Score examples with the files of a bundle, as streams does: what serves, not what was meant.

The ONNX user tower and the vectors of the snapshot rank the whole catalogue, exactly. What the fast
path publishes for the generation is applied here, too.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, Float64, Int64

from contract.errors import BundleError
from models.bundle.bundle import Bundle
from models.features.examples import Example
from models.history.history import Window
from models.serving.encoder import UserEncoder
from models.serving.items import ItemStore
from trainer.evaluate.progressive import CUTOFFS, hits

# Shape legend: B = examples, N = rows of the item store, E = width of an output vector.

T = TypeVar("T")

CUTOFF = CUTOFFS[-1]
_SCORES_AT_ONCE = 1 << 24
"""So many scores are in memory at once, 64 MiB of them."""


class ServedModel:
    """One generation as streams has it."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle_id = bundle.manifest.bundle_id
        self.generation = bundle.manifest.generation
        self.num_examples = bundle.manifest.metrics.get("progressive_examples", 0.0)
        """How many examples it has learned from."""
        self._encoder = UserEncoder(bundle)
        self.items = ItemStore(bundle.manifest.input_dim, bundle.manifest.output_dim)
        self.items.put_many(bundle.snapshot)
        self._empty_of: tuple[tuple[int, int], np.ndarray] | None = None

    def users(self, windows: Sequence[Window]) -> Float32[np.ndarray, "B E"]:
        """Return the user vectors of *windows*."""
        newest_ms = [window.newest_ms for window in windows]
        return self._encoder.encode(windows, self.items, newest_ms)

    def scores(self, windows: Sequence[Window]) -> Float32[np.ndarray, "B N"]:
        """Return the score of every row; -inf for what was seen and for rows without a video."""
        scores_BN: np.ndarray = self.users(windows) @ self.items.outputs_ND.T
        scores_BN[:, self._empty()] = -np.inf
        for score_N, window in zip(scores_BN, windows, strict=True):
            score_N[self.items.rows(window.video_ids)] = -np.inf
        return scores_BN

    def score_moments(self, windows: Sequence[Window]) -> tuple[float, float]:
        """Return mean and standard deviation of the scores of all videos for all *windows*."""
        num, total, squares = 0, 0.0, 0.0
        for part in in_parts(windows, len(self.items)):
            scores_BN = self.scores(part)
            scores = scores_BN[np.isfinite(scores_BN)].astype(np.float64)
            num, total, squares = (
                num + len(scores), total + scores.sum(), squares + (scores**2).sum()
            )  # fmt: skip
        mean = total / max(num, 1)
        return float(mean), float(np.sqrt(max(squares / max(num, 1) - mean**2, 0.0)))

    def hits(self, examples: Sequence[Example]) -> Float64[np.ndarray, "B"]:
        """Return for each example whether its video is among the best `CUTOFF`."""
        parts = [self._hits(part) for part in in_parts(examples, len(self.items))]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _hits(self, examples: Sequence[Example]) -> Float64[np.ndarray, "B"]:
        rows_B = self.items.rows([example.video_id for example in examples])
        scores_BN = self.scores([example.window for example in examples])
        found_B: np.ndarray = np.where(rows_B > 0, hits(scores_BN, rows_B)[:, -1], 0.0)
        return found_B

    def _empty(self) -> Int64[np.ndarray, "n"]:
        """Return the rows without a video, row 0 among them."""
        if self._empty_of is None or self._empty_of[0] != (self.items.epoch, len(self.items)):
            rows = np.flatnonzero(~self.items.outputs_ND.any(axis=1))
            self._empty_of = (self.items.epoch, len(self.items)), rows
        return self._empty_of[1]


def in_parts(examples: Sequence[T], num_videos: int) -> list[Sequence[T]]:
    """Return *examples* in parts whose scores of *num_videos* fit into memory."""
    size = max(1, _SCORES_AT_ONCE // max(num_videos, 1))
    return [examples[start : start + size] for start in range(0, len(examples), size)]


def opened(bundle: Bundle) -> ServedModel:
    """Return *bundle* ready to score.

    Raises:
        BundleError: it does not run here.
    """
    try:
        return ServedModel(bundle)
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(
            f"it cannot be opened: {type(error).__name__}: {error}", word="unreadable"
        ) from error
