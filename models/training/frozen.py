"""Keep the dense halves of the newest generations as published (torch; training only).

Sparse moves fast, dense slowly: a generation in service keeps the towers and the content table
it was published with, while the id embeddings of this moment are put on top. So what streams
and index_sync hold of a generation stays in one space while its videos move.

Source:
    Liu et al., Monolith: Real Time Recommendation System With Collisionless Embedding Table,
    ORSUM 2022, https://arxiv.org/abs/2209.07663
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Integer

from models.features.features import ContentBatch
from models.serving.encoder import Tables
from models.towers.item_tower import ItemTower
from models.training.config import TowerConfig
from models.training.two_tower import TwoTowerModel, add_id_embeddings

# Shape legend: n = some videos, D = width of a vector.

NUM_FROZEN = 3
"""How many generations are kept: the one in service, the one offered, and one to go back to."""


@dataclass(frozen=True, slots=True)
class _DenseHalf:
    tables: Tables
    item_tower: ItemTower


class FrozenGenerations:
    """Keeps the newest `NUM_FROZEN` generations and drops older ones."""

    def __init__(self, config: TowerConfig) -> None:
        self._config = config
        self._halves: dict[int, _DenseHalf] = {}

    @property
    def generations(self) -> list[int]:
        """The generations that are kept, oldest first."""
        return sorted(self._halves)

    def freeze(
        self, generation: int, model: TwoTowerModel, *, in_service: int | None = None
    ) -> None:
        """Keep the dense half of *model* as it is now; the one *in_service* is not dropped."""
        tables = model.tables
        self._halves[generation] = _DenseHalf(
            Tables(tables.content_HD.copy(), tables.context_KE.copy()),
            copy.deepcopy(model.item_tower),
        )
        while len(self._halves) > NUM_FROZEN:
            del self._halves[min(one for one in self._halves if one != in_service)]

    def drop(self, generation: int) -> None:
        """Forget *generation*."""
        self._halves.pop(generation, None)

    def vectors(
        self,
        generation: int,
        model: TwoTowerModel,
        content: ContentBatch,
        rows: Integer[np.ndarray, "n"],
    ) -> tuple[Float32[np.ndarray, "n D"], Float32[np.ndarray, "n D"]]:
        """Return (input, output) vectors: the frozen half, and the id embeddings of *model*.

        Raises:
            ValueError: the generation is not kept.
        """
        half = self._halves.get(generation)
        if half is None:
            raise ValueError(f"generation {generation} is not kept; kept: {self.generations}")
        return add_id_embeddings(model, half.tables, half.item_tower, content, rows)

    def state(self) -> dict[str, np.ndarray]:
        """Return everything kept, by name; views, not copies."""
        arrays: dict[str, np.ndarray] = {}
        for generation, half in self._halves.items():
            arrays[f"{generation}.content_HD"] = half.tables.content_HD
            arrays[f"{generation}.context_KE"] = half.tables.context_KE
            for name, tensor in half.item_tower.state_dict().items():
                arrays[f"{generation}.item_tower.{name}"] = tensor.numpy()
        return arrays

    def load_state(self, arrays: Mapping[str, np.ndarray], generations: Sequence[int]) -> None:
        """Restore what `state` returned of *generations*.

        Raises:
            ValueError: an array is missing or of another shape.
        """
        try:
            self._halves = {one: self._restored(f"{one}.", arrays) for one in generations}
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"not the frozen generations of this model: {error}") from error

    def _restored(self, prefix: str, arrays: Mapping[str, np.ndarray]) -> _DenseHalf:
        item_tower = ItemTower(self._config)
        weights = {
            name: torch.tensor(arrays[f"{prefix}item_tower.{name}"])
            for name in item_tower.state_dict()
        }
        item_tower.load_state_dict(weights)
        tables = (arrays[prefix + name].copy() for name in ("content_HD", "context_KE"))
        return _DenseHalf(Tables(*tables), item_tower)
