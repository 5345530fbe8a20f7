"""Keep runs on disk, so that a long measurement can be resumed or divided.

One file for each run of one contender with one seed, named after it. A file counts only for the
very same trial: the same log, settings and seed, and the same code of the packages that a run goes
through. What differs in anything is measured anew, beside it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import contract
import models
import nextwatch.datasets
import nextwatch.evaluate
import trainer
from nextwatch.evaluate.prequential import Tested
from nextwatch.evaluate.ranks import RankTally

_PACKAGES = (contract, models, trainer, nextwatch.datasets, nextwatch.evaluate)
_TELLERS = {"cli.py", "progress.py", "report.py"}
"""Modules that only say what came out: changing them changes no run."""


class KeptRun(NamedTuple):
    """The result of one contender: the ranks of the labels in each way of taking part, its cost."""

    tallies: Mapping[str, RankTally]
    train_s: float
    score_s: float


@dataclass(frozen=True, slots=True)
class Kept:
    """The runs in *directory*, by name and by *what* they were run with, which fits into JSON."""

    directory: Path

    def get(self, name: str, what: Mapping[str, Any]) -> tuple[KeptRun, Tested] | None:
        """Return the run of *name* and the cases it was given, or None without one."""
        path = self._path(name, what)
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            ways = sorted({key.split(".")[0] for key in arrays.files if "." in key})
            tallies = {
                way: RankTally(*(arrays[f"{way}.{field}"] for field in RankTally.__annotations__))
                for way in ways
            }
            train_s, score_s = arrays["seconds"].tolist()
            cases = (arrays[name].tolist() for name in ("user_ids", "periods", "is_cold"))
            tested = Tested(*cases)
        return KeptRun(tallies, train_s, score_s), tested

    def put(self, name: str, what: Mapping[str, Any], run: KeptRun, tested: Tested) -> None:
        """Write a run atomically."""
        arrays = {
            f"{way}.{field}": getattr(tally, field)
            for way, tally in run.tallies.items()
            for field in RankTally.__annotations__
        }
        arrays["seconds"] = np.array([run.train_s, run.score_s])
        arrays["user_ids"] = np.array(tested.user_ids, np.str_)
        arrays["periods"] = np.array(tested.periods, np.str_)
        arrays["is_cold"] = np.array(tested.is_cold, bool)
        path = self._path(name, what)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        with beside.open("wb") as file:
            np.savez_compressed(file, **arrays)
        beside.rename(path)

    def _path(self, name: str, what: Mapping[str, Any]) -> Path:
        said = json.dumps(what, sort_keys=True).encode() + code()
        digest = hashlib.sha256(said).hexdigest()[:16]
        return self.directory / f"{name.replace(', seed ', '-')}-{digest}.npz"


def code() -> bytes:
    """Return a digest of the code that a run goes through."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        root = Path(str(package.__file__)).parent
        for path in sorted(one for one in root.rglob("*.py") if one.name not in _TELLERS):
            digest.update(f"{package.__name__}/{path.relative_to(root).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.digest()
