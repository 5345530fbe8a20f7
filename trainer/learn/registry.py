"""Build learners by the name of their model.

A tower is one line in `models.towers.presets.RETRIEVERS`; a model that takes a learner of its own
is one line here.
"""

from collections.abc import Mapping

from models.towers.presets import RETRIEVERS
from models.training.config import TowerConfig
from trainer.learn.learner import Learner
from trainer.learn.tdm_learner import MODEL as TDM
from trainer.learn.tdm_learner import TdmLearner

OVER_TOWERS: Mapping[str, tuple[type[Learner], str]] = {TDM: (TdmLearner, "youtube_dnn")}
"""The learner, and the model whose user and item vectors it builds on."""

NAMES = tuple(sorted([*RETRIEVERS, *OVER_TOWERS]))


def tower_of(name: str) -> str:
    """Return the model whose user and item vectors the model *name* has; itself, for a tower.

    Raises:
        ValueError: there is no such model.
    """
    if name not in NAMES:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(NAMES)}")
    return OVER_TOWERS[name][1] if name in OVER_TOWERS else name


def config_of(name: str) -> TowerConfig:
    """Return the default configuration of the model *name*.

    Raises:
        ValueError: there is no such model.
    """
    return RETRIEVERS[tower_of(name)]


def learner(name: str, config: TowerConfig, *, seed: int) -> Learner:
    """Return a learner of the model *name* that has learned nothing yet; see `config_of`.

    Raises:
        ValueError: there is no such model, or *config* is of another one.
    """
    if config.model != tower_of(name):
        raise ValueError(f"{name} is built on {tower_of(name)}, got settings of {config.model}")
    made, _ = OVER_TOWERS.get(name, (Learner, name))
    return made(config, seed=seed)
