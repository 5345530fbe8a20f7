"""The main program of every peer: read the split, learn until time is over, write the lists.

Each peer is one function from a `Task` to an `Answer`, and ``main`` is all there is around it.
Time is processor time of the whole process, so that a busy machine takes nothing from anybody.
Only numpy is needed here.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from benchmarks.peers.retrieval.split import Ints, Split

LISTS = "lists.npz"
TOLD = "told.json"


@dataclass(slots=True)
class Budget:
    """The processor time for learning in seconds, validation included, from now on."""

    seconds: float
    _started_s: float = field(default_factory=process_time)

    @property
    def spent_s(self) -> float:
        """The seconds used so far."""
        return process_time() - self._started_s

    @property
    def is_over(self) -> bool:
        """Whether it is time to stop."""
        return self.spent_s >= self.seconds


@dataclass(frozen=True, slots=True)
class Task:
    """The task of a peer; *name* chooses among several models of one module."""

    name: str
    split: Split
    budget: Budget
    seed: int
    data: Path


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """The lists of all users, and notes on how they were made.

    Args:
        lists_UT: columns, the best first, filled up with `split.NOBODY`.
        learn_s: processor time that learning took.
        settings: everything that was chosen.
        validation: NDCG@10 of what the lists were made with, on the users of the validation.
        packages: whose versions are to be told.
    """

    lists_UT: Ints
    learn_s: float
    settings: Mapping[str, Any]
    validation: float | None
    packages: tuple[str, ...]


def main(answer: Callable[[Task], TaskAnswer]) -> None:
    """Do what the command line says with *answer*, and write what it returns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--answer", type=Path, required=True, help="the folder to write to")
    parser.add_argument(
        "--data", type=Path, required=True, help="where titles are; no peer needs it"
    )
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    split = Split.read(given.split)
    task = Task(given.name, split, Budget(given.minutes * 60), given.seed, given.data)
    write(answer(task), given.answer)


def write(answer: TaskAnswer, directory: Path) -> None:
    """Write *answer* to *directory*, as `contest` reads it."""
    np.savez(directory / LISTS, lists_UT=answer.lists_UT)
    told = {
        "learn_s": round(answer.learn_s, 1),
        "settings": dict(answer.settings),
        "validation": answer.validation,
        "versions": {package: version(package) for package in answer.packages},
    }
    (directory / TOLD).write_text(json.dumps(told), encoding="utf-8")
