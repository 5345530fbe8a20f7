"""Nextwatch's own models on the same split: learned by their presets, scored as they are served.

One epoch is learned first, to be timed and thrown away; then as many as there is time for, but
never more than the preset has, since the learning rate must end at nothing.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.peers.retrieval.split import Split, first
from benchmarks.peers.retrieval.task import Task, TaskAnswer, main
from models.history.history import WindowPolicy
from models.towers.presets import OF_SEQUENCES
from nextwatch.evaluate.contender import TrainingData
from nextwatch.evaluate.learned import Learned
from nextwatch.evaluate.logs import ml1m
from trainer.learn.registry import learner

_CASES_AT_A_TIME = 128


def answer(task: Task) -> TaskAnswer:
    """Return the lists of the model with the name of the task."""
    torch.set_num_threads(1)
    halves = ml1m.read(task.data, policy=WindowPolicy())
    preset = OF_SEQUENCES[task.name]
    learned = [history.columns for history in halves.histories]
    assert _is_same(task.split, learned), "everybody learns from the same"

    def schooled(num_epochs: int) -> Learned:
        recipe = dataclasses.replace(preset.recipe, num_epochs=num_epochs)
        model = Learned(learner(task.name, preset.config, seed=task.seed), recipe=recipe)
        model.prepare(TrainingData(halves.uploads, halves.histories))
        return model

    schooled(1)
    epoch_s = task.budget.spent_s
    left_s = task.budget.seconds - epoch_s
    num_epochs = max(1, min(preset.recipe.num_epochs, int(left_s / epoch_s)))
    model = schooled(num_epochs)
    learn_s = task.budget.spent_s
    lists = []
    for start in range(0, len(halves.tests), _CASES_AT_A_TIME):
        cases = halves.tests[start : start + _CASES_AT_A_TIME]
        known = [np.array(case.exposed, np.int64) for case in cases]
        lists.append(first(model.score(cases), known))
    settings = {"epochs": num_epochs, "most_epochs": preset.recipe.num_epochs}
    settings |= {"dim": preset.config.dim, "hidden_dim": preset.config.hidden_dim}
    packages = ("nextwatch", "torch", "numpy")
    return TaskAnswer(np.concatenate(lists), learn_s, settings, None, packages)


def _is_same(split: Split, sequences: Sequence[Sequence[int]]) -> bool:
    return len(sequences) == split.num_users and all(
        np.array_equal(split.learned(user), np.asarray(columns))
        for user, columns in enumerate(sequences)
    )


if __name__ == "__main__":
    main(answer)
