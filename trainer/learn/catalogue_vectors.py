"""Keep the output vectors of the whole catalogue, to validate a batch without computing them.

Vectors of all videos take seconds with a million of them, so that computing them for each batch
was most of what the trainer did (95 % with 100,000 videos). What is kept is what a generation in
service is: the dense half of one moment, users included, with later id embeddings and live signals
for the videos that were touched since, oldest touched first. Each batch pays for so many videos;
half of that renews touched ones, the other half is saved until it pays for all of them with the
dense half of that moment. A catalogue that is paid for at once is as of the batch, exactly.
"""

import copy
import dataclasses

import numpy as np
import torch
from jaxtyping import Float32, Integer
from torch import nn

from models.features.features import UserBatch
from models.features.growth import FIRST_CAPACITY, grown
from models.features.vocabulary import Vocabulary
from models.serving.encoder import Tables
from models.serving.live_signals import LiveSignals, served_dim, served_items
from models.towers.item_tower import ItemTower
from models.towers.registry import USER_INPUTS
from models.training.config import TowerConfig
from models.training.two_tower import TwoTowerModel, add_id_embeddings

# Shape legend: N = videos, B = users, n = some rows, E = width of a served vector.

CHUNK = 8_192
"""So many videos are computed at once: the memory of more is not needed."""


class CatalogueVectors:
    """Served output vectors by row, and the dense half that they are of."""

    def __init__(self, config: TowerConfig) -> None:
        dim = config.dim
        self._has_signals = config.has_live_signals
        self._output_dim = served_dim(dim) if self._has_signals else dim
        self._output_NE = np.zeros((0, self._output_dim), np.float32)
        self._is_touched_N = np.zeros(FIRST_CAPACITY, bool)
        self._half: DenseHalf | None = None
        self._saved = 0
        self._next_row = 0
        self.num_renewed = 0
        """How many videos were computed so far, for a benchmark to tell."""

    def touch(self, rows: Integer[np.ndarray, "n"]) -> None:
        """Note that these rows are out of date."""
        self._is_touched_N[rows] = True

    def reserve(self, row: int) -> None:
        """Make room for *row*, which is new or has changed."""
        self._is_touched_N = grown(self._is_touched_N, row + 1)
        self._is_touched_N[row] = True

    def renew(
        self, model: TwoTowerModel, vocabulary: Vocabulary, signals: LiveSignals, *, most: int
    ) -> None:
        """Compute up to *most* videos, or everything if enough was saved for it."""
        num_videos = len(vocabulary)
        self._saved += most // 2
        if self._half is None or num_videos <= max(most, self._saved):
            self._half, self._saved = dense_half(model), 0
            rows = np.arange(1, num_videos + 1)
            self._is_touched_N[:] = False
        else:
            rows = self._oldest_touched(most // 2)
            self._is_touched_N[rows] = False
        self._output_NE = grown(self._output_NE, num_videos + 1)
        for start in range(0, len(rows), CHUNK):
            self._compute(rows[start : start + CHUNK], model, vocabulary, signals)
        self.num_renewed += len(rows)

    def similarity(
        self, users: UserBatch, model: TwoTowerModel, vocabulary: Vocabulary
    ) -> Float32[np.ndarray, "B N"]:
        """Return the served similarity of *users* with each video, by the kept dense half."""
        assert self._half is not None
        rows, of_watched = watched_rows(users)
        input_nD = with_padding(self._half.item_vectors(model, vocabulary, rows)[0])
        user_BE = self._half.served_users(of_watched, input_nD)
        similarity_BN: np.ndarray = user_BE @ self._output_NE[1 : len(vocabulary) + 1].T
        return similarity_BN

    def _oldest_touched(self, most: int) -> Integer[np.ndarray, "n"]:
        """Return up to *most* touched rows, going round the catalogue."""
        touched = np.flatnonzero(self._is_touched_N)
        first = int(np.searchsorted(touched, self._next_row))
        taken = np.concatenate([touched[first:], touched[:first]])[:most]
        self._next_row = int(taken[-1]) + 1 if len(taken) else 0
        return taken

    def _compute(
        self,
        rows: Integer[np.ndarray, "n"],
        model: TwoTowerModel,
        vocabulary: Vocabulary,
        signals: LiveSignals,
    ) -> None:
        assert self._half is not None
        _, output_nD = self._half.item_vectors(model, vocabulary, rows)
        if self._has_signals:
            output_nD = served_items(output_nD, signals.signals(rows))
        self._output_NE[rows] = output_nD


def watched_rows(users: UserBatch) -> tuple[Integer[np.ndarray, "n"], UserBatch]:
    """Return the distinct rows that *users* watched, and the users with their places, from 1 on.

    So that only these rows need vectors; `with_padding` puts that of padding before them.
    """
    rows = np.unique(users.watch_rows_BT)
    rows = rows[rows > 0].astype(np.int64)
    places_BT = np.searchsorted(rows, users.watch_rows_BT) + (users.watch_rows_BT > 0)
    return rows, dataclasses.replace(users, watch_rows_BT=places_BT.astype(np.int32))


def with_padding(vectors_nD: Float32[np.ndarray, "n D"]) -> Float32[np.ndarray, "m D"]:
    """Return the vectors after a row of zeros."""
    return np.pad(vectors_nD, ((1, 0), (0, 0)))


@dataclasses.dataclass(frozen=True, slots=True)
class DenseHalf:
    """Towers and tables as they were at one moment; id embeddings are those of a model of now."""

    tables: Tables
    item_tower: ItemTower
    user_tower: nn.Module
    head: nn.Module | None

    def item_vectors(
        self, model: TwoTowerModel, vocabulary: Vocabulary, rows: Integer[np.ndarray, "n"]
    ) -> tuple[Float32[np.ndarray, "n D"], Float32[np.ndarray, "n D"]]:
        """Return (input, output) vectors of *rows*."""
        content = vocabulary.content(rows)
        return add_id_embeddings(model, self.tables, self.item_tower, content, rows)

    @torch.no_grad()
    def served_users(
        self, users: UserBatch, input_nD: Float32[np.ndarray, "n D"]
    ) -> Float32[np.ndarray, "B E"]:
        """Return user vectors as the exported tower gives them."""
        inputs = self.tables.tower_inputs(users, input_nD)
        user_BE = self.user_tower(*(torch.from_numpy(inputs[name]) for name in USER_INPUTS))
        served_BE: np.ndarray = (user_BE if self.head is None else self.head(user_BE)).numpy()
        return served_BE


def dense_half(model: TwoTowerModel) -> DenseHalf:
    """Return a copy of what *model* has of this moment besides its id embeddings."""
    tables = model.tables
    return DenseHalf(
        Tables(tables.content_HD.copy(), tables.context_KE.copy()),
        copy.deepcopy(model.item_tower),
        copy.deepcopy(model.user_tower),
        copy.deepcopy(model.head),
    )
