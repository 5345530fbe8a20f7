"""Name the files of a ranker in a bundle, and look up what its tables hold of videos.

A video is the sum of its own row and those of its channel, category, tag and length, so that a new
upload is at once what its content says.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from jaxtyping import Float, Float32, Int64

from contract.errors import BundleError
from models.bundle.bundle import Bundle
from models.features.ranking_features import (
    CANDIDATE_FEATURES,
    CONTEXT_FEATURES,
    PLAIN_CONTEXT,
    PLAIN_PAIR,
    VERSION,
    VIDEO_FEATURES,
    length_of,
)

# Shape legend: n = some videos, A = attributes, P = videos of the snapshot, W = width of a row,
# R = rows of the hashed table.

MODEL = "ranker.onnx"
VIDEO_PART, USER_PART = "ranker_video.onnx", "ranker_user.onnx"
TABLES, GOLDEN = "ranker_tables.safetensors", "ranker_golden.safetensors"
CARD = "ranker.json"

NORMALISED = {"context": PLAIN_CONTEXT, "pair": PLAIN_PAIR, "video": VIDEO_FEATURES}
"""What is normalised by quantiles, by part of the network."""

LEAST_S = 1e-3
"""No expected watch time is less: its logarithm is part of the score."""

NUM_PRODUCTS = 6
"""Beside the features of a pair: the product of the user's taste and the video, the sum of their
biases, the product of surface and video, how often it is watched on this surface, position, and
source."""


class RankerCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What serving has to know of a ranker besides its weights."""

    name: str
    dim: int
    buckets: int
    max_history: int
    has_roots: bool
    max_watch_s: float
    retrieval_weight: float
    feature_version: int = VERSION
    context_features: tuple[str, ...] = CONTEXT_FEATURES
    candidate_features: tuple[str, ...] = CANDIDATE_FEATURES


def card_of(bundle: Bundle) -> RankerCard:
    """Return the card of the ranker of *bundle*.

    Raises:
        BundleError: it cannot be read, or the ranker was trained on other features.
    """
    try:
        card = msgspec.json.decode(bundle.file(CARD), type=RankerCard)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleError(f"{CARD} cannot be read: {error}", word="unreadable") from error
    found = card.feature_version, card.context_features, card.candidate_features
    if found != (VERSION, CONTEXT_FEATURES, CANDIDATE_FEATURES):
        raise BundleError(
            f"the ranker reads features {found}, which are not those of this code", word="format"
        )
    return card


@dataclass(frozen=True, slots=True)
class EmbeddingRows:
    """The own rows of the videos of a snapshot, and the hashed rows of attributes."""

    own_PW: Float32[np.ndarray, "P W"]
    hashed_RW: Float32[np.ndarray, "R W"]
    buckets: int

    def sums(
        self, place_n: Int64[np.ndarray, "n"], attribute_nA: Int64[np.ndarray, "n A"]
    ) -> Float32[np.ndarray, "n W"]:
        """Return the embedding of each video; place -1 is a video without a row of its own."""
        sum_nW = np.where(place_n[:, None] >= 0, self.own_PW.take(place_n, axis=0, mode="clip"), 0)
        first_A = np.arange(attribute_nA.shape[1]) * self.buckets
        for first, attribute_n in zip(first_A.tolist(), attribute_nA.T, strict=True):
            is_said_n1 = (attribute_n > 0)[:, None]
            sum_nW += self.hashed_RW.take(attribute_n + first, axis=0) * is_said_n1
        return sum_nW.astype(np.float32)


def attributes(
    codes: Mapping[str, Float[np.ndarray, "n"]],
    duration_ms_n: Float[np.ndarray, "n"],
    buckets: int,
) -> Int64[np.ndarray, "n A"]:
    """Return the hashed channel, category and tag and the class of length; 0 says nothing."""
    columns = [
        np.where(code_n > 0, code_n.astype(np.int64) % (buckets - 1) + 1, 0)
        for code_n in (codes["channel"], codes["category"], codes["tag"])
    ]
    return np.stack([*columns, length_of(duration_ms_n).astype(np.int64)], axis=1)
