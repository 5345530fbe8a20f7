"""The table of user towers, by the name of their model (torch; training only).

All share one interface, one item side and one exporter: a tower reads the vectors of what was
watched, oldest first with padding in front, and gives a user vector of unit norm. Any of them
can therefore learn in the trainer and serve in streams.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from models.towers import dssm, gru4rec, sasrec, youtube_dnn, youtube_lstm
from models.training.config import TowerConfig

# Shape legend: B = users, T = watches, F = features of a watch, D = width of a vector.

USER_INPUTS = ("watches", "watch_features", "mask", "search", "context", "example_age")
"""The inputs of every tower, in this order; shapes as in `YoutubeDnnTower`."""

USER_TOWERS: dict[str, Callable[[TowerConfig], nn.Module]] = {
    "dssm": dssm.DssmTower,
    "gru4rec": gru4rec.Gru4RecTower,
    "sasrec": sasrec.SasRecTower,
    "youtube_dnn": youtube_dnn.YoutubeDnnTower,
    "youtube_lstm": youtube_lstm.YoutubeLstmTower,
}


def user_tower(config: TowerConfig) -> nn.Module:
    """Return a new user tower of the model that *config* names.

    Raises:
        ValueError: there is no such model.
    """
    if config.model not in USER_TOWERS:
        known = ", ".join(sorted(USER_TOWERS))
        raise ValueError(f"unknown model {config.model!r}; known: {known}")
    return USER_TOWERS[config.model](config)


@runtime_checkable
class SequenceTower(Protocol):
    """A user tower that can learn from all positions of a sequence at once."""

    def positions(
        self,
        watches_BTD: Float[Tensor, "B T D"],
        watch_features_BTF: Float[Tensor, "B T F"],
        mask_BT: Float[Tensor, "B T"],
    ) -> Float[Tensor, "B T D"]:
        """Return the user vectors as of every watch, of norm 1; nothing later counts."""
        ...
