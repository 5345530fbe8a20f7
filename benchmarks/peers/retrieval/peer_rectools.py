"""RecTools' SASRec, as its guides use it: full softmax, stopped by the users of the validation.

RecTools takes the last watches of each user as one sequence an epoch, and its defaults (256
factors, 100 watches, batches of 128) are for a GPU. Smaller ones were chosen on the validation
(docs/experiments.md). The weights that validate best make the lists.
"""

import copy
import logging
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as lightning
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

from benchmarks.peers.retrieval.split import NOBODY, TOP, Ints, Split, ndcg_of_lists
from benchmarks.peers.retrieval.task import Budget, Task, TaskAnswer, main

SETTINGS: dict[str, Any] = {
    "n_blocks": 2,
    "n_heads": 1,
    "n_factors": 64,
    "session_max_len": 50,
    "dropout_rate": 0.2,
    "loss": "softmax",
    "lr": 1e-3,
    "batch_size": 16,
}
PATIENCE = 5
"""Validations without a better one until the end."""
_MOST_EPOCHS = 1_000
_RANKED = 10


def answer(task: Task) -> TaskAnswer:
    """Return the lists of the best epoch that there was time for."""
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|rectools")
    lightning.seed_everything(task.seed)
    held = _codes(task.split)
    num_videos = task.split.num_videos

    def is_held(interactions: pd.DataFrame) -> Any:
        code = interactions[Columns.User] * num_videos + interactions[Columns.Item]
        return code.isin(held)

    model = SASRecModel(
        **SETTINGS,
        get_val_mask_func=is_held,
        get_trainer_func=lambda: _trainer(task.budget),
    )
    known = _dataset(task.split.full())
    model.fit(known)
    (watch,) = [one for one in model.fit_trainer.callbacks if isinstance(one, BestEpoch)]
    model.lightning_model.torch_model.load_state_dict(watch.weights)
    learn_s = task.budget.spent_s
    validation = ndcg_of_lists(
        _lists(model, _dataset(task.split), task.split.validated), task.split
    )
    lists_UT = _lists(model, known, np.arange(task.split.num_users))
    settings = {**SETTINGS, "epochs": watch.num_epochs, "best_epoch": watch.best_epoch}
    packages = ("rectools", "pytorch-lightning", "torch", "numpy")
    return TaskAnswer(lists_UT, learn_s, settings, validation, packages)


class BestEpoch(lightning.Callback):  # type: ignore[misc]
    """Keeps the weights with the best NDCG@10; stops when none is better, or time is over."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._gains: list[float] = []
        self._best = -1.0
        self.weights: dict[str, Any] = {}
        self.num_epochs = 0
        self.best_epoch = 0

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Look at the time."""
        if self._budget.is_over:
            trainer.should_stop = True

    def on_validation_batch_end(
        self, _trainer: Any, _module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Rank the films held back among those that are not in the sequence."""
        logits = outputs["logits"].detach().clone().reshape(len(batch["y"]), -1)
        sought = logits.gather(1, batch["y"])
        logits.scatter_(1, batch["x"], -torch.inf)  # what fills up is a column of its own
        num_better = (logits > sought).sum(dim=1).numpy()
        self._gains += np.where(num_better < _RANKED, 1 / np.log2(num_better + 2), 0.0).tolist()

    def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
        """Keep the weights if these are the best; stop if there was none for long."""
        self.num_epochs += 1
        found = float(np.mean(self._gains))
        self._gains.clear()
        print(f"epoch {self.num_epochs}, {self._budget.spent_s:.0f} s: {found:.4f}", flush=True)
        if found > self._best:
            self._best, self.best_epoch = found, self.num_epochs
            self.weights = copy.deepcopy(module.torch_model.state_dict())
        elif self.num_epochs - self.best_epoch >= PATIENCE:
            trainer.should_stop = True


def _trainer(budget: Budget) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=_MOST_EPOCHS,
        callbacks=[BestEpoch(budget)],
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
    )


def _dataset(split: Split) -> Dataset:
    return Dataset.construct(
        pd.DataFrame(
            {
                Columns.User: split.user_K,
                Columns.Item: split.column_K,
                Columns.Weight: 1.0,
                Columns.Datetime: pd.to_datetime(split.place_K, unit="s"),
            }
        )
    )


def _codes(split: Split) -> Ints:
    users = split.validated
    codes: Ints = users * split.num_videos + split.held_U[users]
    return codes


def _lists(model: Any, watched: Dataset, users: Ints) -> Ints:
    found = model.recommend(users=users, dataset=watched, k=TOP, filter_viewed=True)
    lists_BT: Ints = np.full((len(users), TOP), NOBODY)
    row = np.searchsorted(users, found[Columns.User].to_numpy())
    lists_BT[row, found[Columns.Rank].to_numpy() - 1] = found[Columns.Item].to_numpy()
    return lists_BT


if __name__ == "__main__":
    main(answer)
