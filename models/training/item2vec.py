"""Learn item2vec vectors of videos and search words (torch; training only).

Skip-gram with negative sampling over histories: each entry has to tell the entries around it
from some drawn at random. Videos and the words of searches stand in one sequence and so get
one space: who searches for a word is near the videos watched after it. The vectors start the
embeddings of any retrieval model, which then need not find out from zero what goes together.

Three details of word2vec matter more than its network: frequent entries are left out at random,
the width of the window is drawn anew for each entry, so that near ones count more, and
negatives are drawn by frequency^0.75. The negatives of a batch are shared by its pairs, which
changes no expectation and makes the work one matrix product.

Sources:
    Barkan, Koenigstein, Item2Vec: Neural Item Embedding for Collaborative Filtering, MLSP 2016,
    https://arxiv.org/abs/1603.04259
    Mikolov et al., Distributed Representations of Words and Phrases and their Compositionality,
    NIPS 2013, https://arxiv.org/abs/1310.4546
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch.nn.functional import softplus

from models.features.features import FeatureEncoder, Rows
from models.history.history import Window
from models.training.embedding_table import EmbeddingTable

# Shape legend: E = entries of all sequences one after the other, P = pairs of a batch,
# S = shared negatives, N = rows (videos, then words), D = width of a vector.


@dataclass(frozen=True, slots=True)
class Item2VecConfig:
    """How wide the vectors are, and how they are learned.

    Measured on MovieLens-1M, one epoch, last watches to the nearest videos, second last films:
    hit rate .108 at 10 in 16 s with *subsampling* 1e-4, .096 in 29 s with 1e-3.
    """

    dim: int = 64
    window: int = 10
    num_negatives: int = 15
    num_shared: int = 64
    num_epochs: int = 3
    subsampling: float = 1e-4
    alpha: float = 0.75
    lr: float = 0.1
    pairs_per_step: int = 4_096

    def __post_init__(self) -> None:
        for name in ("dim", "window", "num_negatives", "num_shared", "num_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.subsampling > 0:
            raise ValueError(f"subsampling must be above 0, got {self.subsampling}")


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors of norm 1; zero for row 0 and for rows that are in no sequence."""

    video_ND: Float32[np.ndarray, "N D"]
    word_HD: Float32[np.ndarray, "H D"]


def entries(window: Window, features: FeatureEncoder, rows: Rows, *, num_videos: int) -> list[int]:
    """Return what a user did, oldest first: rows of videos, and *num_videos* + rows of words."""
    found = rows(window.video_ids).tolist()
    timed = [
        (entry.event_time_ms, [row] if row else [])
        for entry, row in zip(window.watches, found, strict=True)
    ]
    for search in window.searches:
        words = [num_videos + row for row in features.word_rows(search.query)]
        timed.append((search.event_time_ms, words))
    timed.sort(key=lambda of_event: of_event[0])
    return [row for _, of_event in timed for row in of_event]


def item2vec(
    sequences: Sequence[Sequence[int]],
    config: Item2VecConfig,
    *,
    num_videos: int,
    num_words: int = 0,
    seed: int,
) -> Vectors:
    """Return the vectors of videos 0 to *num_videos* and of the words in rows 0 to *num_words*.

    *sequences* are as `entries` returns them, one for each user, from 1 on.

    Raises:
        ValueError: a sequence has a row that there is not.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    entry_E, user_E = _flat(sequences)
    num_rows = num_videos + num_words + 1
    if len(entry_E) and not (entry_E.min() >= 1 and entry_E.max() < num_rows):
        raise ValueError(f"rows must be from 1 to {num_rows - 1}")
    count_N = np.bincount(entry_E, minlength=num_rows).astype(np.float64)
    noise_N = np.cumsum(np.where(count_N > 0, count_N**config.alpha, 0.0))
    first_ND = (rng.random((num_rows, config.dim)) - 0.5) / config.dim
    inputs = EmbeddingTable(torch.from_numpy(first_ND.astype(np.float32)), lr=config.lr)
    outputs = EmbeddingTable(torch.zeros(num_rows, config.dim), lr=config.lr)
    for _ in range(config.num_epochs):
        is_kept_E = rng.random(len(entry_E)) < _keeping(count_N, config.subsampling)[entry_E]
        for pairs_2P in _pairs(entry_E[is_kept_E], user_E[is_kept_E], config, rng):
            _step(inputs, outputs, pairs_2P, _noise(noise_N, config, rng), config)
    vector_ND = inputs.weight_ND.numpy() * (count_N > 0)[:, None]
    norm_N1 = np.maximum(np.linalg.norm(vector_ND, axis=1, keepdims=True), 1e-12)
    unit_ND = (vector_ND / norm_N1).astype(np.float32)
    word_HD = np.concatenate([np.zeros((1, config.dim), np.float32), unit_ND[num_videos + 1 :]])
    return Vectors(unit_ND[: num_videos + 1], word_HD)


def _flat(sequences: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    sizes = [len(sequence) for sequence in sequences]
    entry_E = np.fromiter((row for one in sequences for row in one), np.int64, sum(sizes))
    return entry_E, np.repeat(np.arange(len(sizes)), sizes)


def _keeping(count_N: Float64[np.ndarray, "N"], subsampling: float) -> Float64[np.ndarray, "N"]:
    """Return how likely an entry stays: sqrt(t / f) + t / f with f its share, at most 1."""
    ratio_N = subsampling * max(count_N.sum(), 1.0) / np.maximum(count_N, 1.0)
    keeping_N: np.ndarray = np.minimum(np.sqrt(ratio_N) + ratio_N, 1.0)
    return keeping_N


def _pairs(
    entry_E: Int64[np.ndarray, "E"],
    user_E: Int64[np.ndarray, "E"],
    config: Item2VecConfig,
    rng: np.random.Generator,
) -> Iterator[Int64[np.ndarray, "2 P"]]:
    """Yield (entry, neighbour) in batches and at random, each pair within a drawn window."""
    reach_E = rng.integers(1, config.window + 1, size=len(entry_E))
    found = [np.zeros((2, 0), np.int64)]
    for distance in range(1, config.window + 1):
        left_E, right_E = np.arange(len(entry_E) - distance), np.arange(distance, len(entry_E))
        together = user_E[left_E] == user_E[right_E]
        for one_E, other_E in ((left_E, right_E), (right_E, left_E)):
            is_near = together & (reach_E[one_E] >= distance)
            found.append(np.stack([entry_E[one_E[is_near]], entry_E[other_E[is_near]]]))
    pairs_2E = np.concatenate(found, axis=1)
    order = rng.permutation(pairs_2E.shape[1])
    for start in range(0, len(order), config.pairs_per_step):
        yield pairs_2E[:, order[start : start + config.pairs_per_step]]


def _noise(
    noise_N: Float64[np.ndarray, "N"], config: Item2VecConfig, rng: np.random.Generator
) -> Int64[np.ndarray, "S"]:
    at_S = rng.random(config.num_shared) * noise_N[-1]
    drawn_S: np.ndarray = np.searchsorted(noise_N, at_S, side="right")
    return drawn_S


def _step(
    inputs: EmbeddingTable,
    outputs: EmbeddingTable,
    pairs_2P: Int64[np.ndarray, "2 P"],
    noise_S: Int64[np.ndarray, "S"],
    config: Item2VecConfig,
) -> None:
    """Take one step of Adagrad; a shared negative weighs as much as its part of num_negatives."""
    centre = inputs.lookup(np.unique(pairs_2P[0]))
    context = outputs.lookup(np.unique(np.concatenate([pairs_2P[1], noise_S])))
    centre_PD = centre.vectors_UD[torch.from_numpy(np.searchsorted(centre.rows_U, pairs_2P[0]))]
    beside = np.searchsorted(context.rows_U, pairs_2P[1])
    context_PD = context.vectors_UD[torch.from_numpy(beside)]
    noise_SD = context.vectors_UD[torch.from_numpy(np.searchsorted(context.rows_U, noise_S))]
    positive_P = softplus(-(centre_PD * context_PD).sum(dim=1))
    is_other_PS = torch.from_numpy(pairs_2P[1][:, None] != noise_S[None, :])
    negative_PS = softplus(centre_PD @ noise_SD.T) * is_other_PS
    weight = config.num_negatives / config.num_shared
    torch.autograd.backward((positive_P + weight * negative_PS.sum(dim=1)).sum())
    inputs.update(centre)
    outputs.update(context)
