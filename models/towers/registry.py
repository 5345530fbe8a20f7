"""Build user towers by the name of their model (torch; training only).

All share one interface, one item side and one exporter: a tower reads the vectors of what was
watched, oldest first with padding in front, and gives a user vector of unit norm. Any of them
can therefore learn in the trainer and serve in streams.
"""

from collections.abc import Callable

from models.towers import dssm, gru4rec, sasrec, youtube_dnn, youtube_lstm
from models.towers.layers import UserTower
from models.training.config import TowerConfig

USER_INPUTS = ("watches", "watch_features", "mask", "search", "context", "example_age")
"""The inputs of every tower, in this order; shapes as in `models.towers.layers.UserTower`."""

USER_TOWERS: dict[str, Callable[[TowerConfig], UserTower]] = {
    "dssm": dssm.DssmTower,
    "gru4rec": gru4rec.Gru4RecTower,
    "sasrec": sasrec.SasRecTower,
    "youtube_dnn": youtube_dnn.YoutubeDnnTower,
    "youtube_lstm": youtube_lstm.YoutubeLstmTower,
}


def user_tower(config: TowerConfig) -> UserTower:
    """Return a new user tower of the model that *config* names.

    Raises:
        ValueError: there is no such model.
    """
    if config.model not in USER_TOWERS:
        known = ", ".join(sorted(USER_TOWERS))
        raise ValueError(f"unknown model {config.model!r}; known: {known}")
    return USER_TOWERS[config.model](config)
