"""Hold one generation of item vectors: its collection, its item tower, and what is written.

Of two vectors of one video the greater *version* stays: a trained one beats one by content
alone, then the later one wins. So a vector may come twice, late or out of order, and what is
stored in the end is the same; and a re-delivered upload never undoes what was learned.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from contract.errors import DecodeError
from contract.wire.events import ItemVector, Origin, RankingFeatures, VideoUpload
from models.features.ranking_features import content_codes

MAX_NORM_ERROR = 1e-2


class Version(NamedTuple):
    """The order of two vectors of one video."""

    is_trained: bool
    updated_at_ms: int


class Point(NamedTuple):
    """One video as it goes into the index."""

    video_id: str
    vector: list[float]
    version: Version


class Tower(Protocol):
    """Embeds uploads by their content, as `models.serving.encoder.ItemEncoder` does."""

    def encode(self, uploads: Sequence[VideoUpload]) -> tuple[np.ndarray, np.ndarray]:
        """Return input vectors [N, Di] and output vectors [N, Do] of *uploads*."""
        ...


@dataclass(slots=True)
class Generation:
    """A generation that has a collection, complete or being built.

    *unfit* are videos that its tower gave no finite vector for; they are left out.
    """

    number: int
    collection: str
    input_dim: int
    output_dim: int
    tower: Tower
    versions: dict[str, Version] = field(default_factory=dict)
    unfit: set[str] = field(default_factory=set)

    def embed(self, uploads: Sequence[VideoUpload], *, now_ms: int) -> list[ItemVector]:
        """Return the vectors by content of those *uploads* that have no trained vector here."""
        wanted = [upload for upload in uploads if not self._is_trained(upload.video_id)]
        inputs, outputs = self.tower.encode(wanted)
        is_finite = np.isfinite(inputs).all(axis=1) & np.isfinite(outputs).all(axis=1)
        self.unfit.update(up.video_id for up, ok in zip(wanted, is_finite, strict=True) if not ok)
        return [
            ItemVector(
                video_id=upload.video_id,
                generation=self.number,
                origin=Origin.CONTENT,
                input_vector=input_vector,
                output_vector=output_vector,
                features=RankingFeatures(
                    duration_ms=upload.duration_ms,
                    uploaded_at_ms=upload.uploaded_at_ms,
                    **content_codes(upload),
                ),
                updated_at_ms=now_ms,
            )
            for upload, input_vector, output_vector, is_fit in zip(
                wanted, _short(inputs), _short(outputs), is_finite, strict=True
            )
            if is_fit
        ]

    def check(self, vector: ItemVector) -> None:
        """Reject a vector that does not fit this generation.

        Raises:
            DecodeError: ``vector_dim`` or ``vector_norm``.
        """
        got = len(vector.input_vector), len(vector.output_vector)
        if got != (self.input_dim, self.output_dim):
            expected = f"{(self.input_dim, self.output_dim)} in generation {self.number}"
            raise DecodeError("vector_dim", f"widths {got}, expected {expected}")
        norm = math.sqrt(math.fsum(x * x for x in vector.output_vector))
        if abs(norm - 1.0) > MAX_NORM_ERROR:
            raise DecodeError("vector_norm", f"an output vector has norm 1, got {norm:.6g}")

    def newer(self, points: Iterable[Point]) -> list[Point]:
        """Return those *points* that are newer than the written ones."""
        oldest = Version(is_trained=False, updated_at_ms=-1)
        return [p for p in points if p.version > self.versions.get(p.video_id, oldest)]

    def written(self, points: Iterable[Point]) -> None:
        """Note *points* that the index has acknowledged."""
        self.versions.update((point.video_id, point.version) for point in points)

    def removed(self, video_ids: Iterable[str]) -> None:
        """Forget videos that the index has deleted."""
        for video_id in video_ids:
            self.versions.pop(video_id, None)

    def _is_trained(self, video_id: str) -> bool:
        version = self.versions.get(video_id)
        return version is not None and version.is_trained


def point_of(vector: ItemVector) -> Point:
    """Return the point of the index for *vector*."""
    version = Version(
        is_trained=vector.origin is Origin.TRAINING, updated_at_ms=vector.updated_at_ms
    )
    return Point(vector.video_id, vector.output_vector, version)


def _short(vectors: np.ndarray) -> list[list[float]]:
    """Round to six places: half of the bytes on the wire, and less than float32 loses anyway."""
    rows: list[list[float]] = vectors.astype(np.float64).round(6).tolist()
    return rows
