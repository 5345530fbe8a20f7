"""Keep the embeddings of videos: one row each, and hashed rows of what their uploads say.

A video is the sum of its own row and those of its channel, category, tag and length. Own rows start
at zero, so that a new upload is at once what its content says. Each row has three parts: what the
video is in a history, what it is as a candidate, and how often it is watched whoever sees it.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from models.features.growth import FIRST_CAPACITY
from models.features.ranking_features import NUM_LENGTHS, length_of

# Shape legend: N = rows of videos, n = some rows, W = width of a row, A = attributes.

ATTRIBUTES = ("channel", "category", "tag", "length")
_INIT = 0.05


class VideoEmbeddings(nn.Module):
    """The embeddings, and the attributes of each row."""

    attribute_NA: Tensor

    def __init__(self, dim: int, buckets: int) -> None:
        super().__init__()
        self.dim = dim
        width = 2 * dim + 1
        self._buckets = buckets
        self.own = nn.Embedding(FIRST_CAPACITY, width, sparse=True)
        nn.init.zeros_(self.own.weight)
        sizes = [buckets, buckets, buckets, NUM_LENGTHS]
        self.hashed = nn.Embedding(sum(sizes), width, sparse=True)
        nn.init.normal_(self.hashed.weight, std=_INIT)
        with torch.no_grad():
            self.hashed.weight[:, -1] = 0.0
        self._offset_A = torch.tensor(np.cumsum([0, *sizes[:-1]]))
        self.register_buffer(
            "attribute_NA", torch.zeros((FIRST_CAPACITY, len(sizes)), dtype=torch.long)
        )

    def reserve(self, row: int) -> bool:
        """Make room for *row*, by doubling; return whether the own rows are another matrix now."""
        capacity = self.own.num_embeddings
        if row < capacity:
            return False
        while capacity <= row:
            capacity *= 2
        old = self.own.weight.detach()
        self.own = nn.Embedding(capacity, old.shape[1], sparse=True)
        with torch.no_grad():
            self.own.weight.zero_()
            self.own.weight[: len(old)] = old
        attribute_NA = torch.zeros((capacity, self.attribute_NA.shape[1]), dtype=torch.long)
        attribute_NA[: len(self.attribute_NA)] = self.attribute_NA
        self.attribute_NA = attribute_NA
        return True

    @torch.no_grad()
    def forget(self, rows: Int64[np.ndarray, "n"]) -> None:
        """Forget what was learned and said of *rows*."""
        self.own.weight[torch.from_numpy(rows)] = 0.0
        self.attribute_NA[torch.from_numpy(rows)] = 0

    def describe(
        self,
        rows: Int64[np.ndarray, "n"],
        channel_n: Int64[np.ndarray, "n"],
        category_n: Int64[np.ndarray, "n"],
        tag_n: Int64[np.ndarray, "n"],
        duration_ms_n: Float[np.ndarray, "n"],
    ) -> None:
        """Note the codes of what uploads say, of these rows; code 0 says nothing."""
        hashed = [
            np.where(c > 0, c % (self._buckets - 1) + 1, 0) for c in (channel_n, category_n, tag_n)
        ]
        attributes = np.stack([*hashed, length_of(duration_ms_n).astype(np.int64)], axis=1)
        self.attribute_NA[torch.from_numpy(rows)] = torch.from_numpy(attributes.astype(np.int64))

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of all rows of each video, and the mean square of what was looked up."""
        attributes = self.attribute_NA[rows]
        own = self.own(rows)
        hashed = self.hashed(attributes + self._offset_A)
        is_said = (attributes > 0).unsqueeze(-1)
        penalty = own.square().sum() + (hashed * is_said).square().sum()
        is_known = (rows > 0).unsqueeze(-1)
        return (own + (hashed * is_said).sum(-2)) * is_known, penalty / max(rows.numel(), 1)
