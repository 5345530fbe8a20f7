"""The user towers that there are, by the name of their model (torch; training only).

All share one interface, one item side and one exporter: a tower reads the vectors of what was
watched, oldest first with padding in front, and gives a user vector of unit norm. Any of them
can therefore learn in the trainer and serve in streams.
"""

from collections.abc import Callable

from torch import nn

from models import youtube_dnn
from models.retriever import RetrieverConfig

USER_INPUTS = ("watches", "watch_features", "mask", "search", "context", "example_age")
"""What every tower is given, in this order; shapes as `models.youtube_dnn.UserTower.forward` says."""

USER_TOWERS: dict[str, Callable[[RetrieverConfig], nn.Module]] = {
    "youtube_dnn": youtube_dnn.UserTower,
}


def user_tower(config: RetrieverConfig) -> nn.Module:
    """Return a new user tower of the model that *config* names.

    Raises:
        ValueError: there is no such model.
    """
    if config.model not in USER_TOWERS:
        known = ", ".join(sorted(USER_TOWERS))
        raise ValueError(f"unknown model {config.model!r}; known: {known}")
    return USER_TOWERS[config.model](config)
