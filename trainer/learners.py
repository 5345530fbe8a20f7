"""Every model that the trainer can be told to learn, by name: a tower, or a tree over one.

A tower is one line in `models.presets.RETRIEVERS`; a model that takes a learner of its own is one
line here.
"""

import dataclasses

from models.examples import CompletionRule
from models.presets import RETRIEVERS
from trainer.learner import Learner
from trainer.tdm_learner import MODEL as TDM
from trainer.tdm_learner import TdmLearner

OVER_TOWERS: dict[str, tuple[type[Learner], str]] = {TDM: (TdmLearner, "youtube_dnn")}
"""The learner, and the model whose user and item vectors it builds on."""

NAMES = tuple(sorted([*RETRIEVERS, *OVER_TOWERS]))


def learner(name: str, *, completion: CompletionRule, seed: int) -> Learner:
    """Return a learner of the model *name* that has learned nothing yet.

    Raises:
        ValueError: there is no such model.
    """
    if name not in NAMES:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(NAMES)}")
    made, tower = OVER_TOWERS.get(name, (Learner, name))
    return made(dataclasses.replace(RETRIEVERS[tower], completion=completion), seed=seed)
