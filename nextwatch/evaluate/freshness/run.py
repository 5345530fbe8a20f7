"""Run one evaluation of freshness: read the log, replay it once, sum up by age."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from contract.errors import DatasetError
from models.history.history import WindowPolicy
from models.training.config import TowerConfig
from nextwatch.evaluate import entrants as contestants
from nextwatch.evaluate.freshness.entrant import ALL_AGES, SYNCS_MS, Ages, FreshnessEntrant
from nextwatch.evaluate.learned import Learned
from nextwatch.evaluate.logs import kuairand
from nextwatch.evaluate.prequential import Tell, Tested, ignore_progress, replay
from nextwatch.evaluate.ranks import gains, intervals, joined, means

# Shape legend: Q = cases, M = measures.

Result = dict[str, Any]
FRESHEST = Ages("2 s", "live", "per event")
"""What all others are compared with, on the same cases."""
SEARCHED = "tdm"
"""The model that finds by a tree and not by inner products with all videos."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshnessTrial:
    """The options: the folder of the log, who retrieves, which days count, how many seeds."""

    directory: Path
    model: str = "youtube_dnn"
    window: str = "test"
    num_seeds: int = 1
    overrides: Mapping[str, str] = field(default_factory=dict)


def check(trial: FreshnessTrial) -> TowerConfig:
    """Return the configuration of the model of *trial*.

    Raises:
        DatasetError: there is no such model, or it has a tree.
        ValueError: a setting is refused.
    """
    known = [name for name in contestants.model_names() if name != SEARCHED]
    if trial.model not in known:
        raise DatasetError(f"unknown model {trial.model!r}; known: {', '.join(sorted(known))}")
    return _learned(trial, seed=0).learner.config


def run(trial: FreshnessTrial, *, tell: Tell = ignore_progress) -> Result:
    """Return the measures by age under ``rows``, and what was run.

    Raises:
        DatasetError: with the remedy, when files, a model or an extra are missing or damaged.
    """
    config = check(trial)
    entrants = [
        FreshnessEntrant(f"{trial.model}, seed {seed}", _learned(trial, seed=seed))
        for seed in range(trial.num_seeds)
    ]
    tell("reading", 0.0)
    log = kuairand.read(trial.directory, window=trial.window)
    tested = replay(log, entrants, policy=WindowPolicy(), tell=tell)
    if not tested.user_ids:
        raise DatasetError(f"{trial.directory} has no case to test: nothing new is completed")
    return {
        "data": "kuairand",
        "window": trial.window,
        "model": trial.model,
        "has_live_signals": config.has_live_signals,
        "overrides": dict(trial.overrides),
        "seeds": trial.num_seeds,
        "n": len(tested.user_ids),
        "num_videos": len(log.uploads),
        "rows": rows_of(entrants, tested, len(log.uploads)),
        "syncs": {name: entrants[0].num_syncs[name] for name in SYNCS_MS},
        "train_seconds": sum(one.train_s for one in entrants) / trial.num_seeds,
        "score_seconds": sum(one.score_s for one in entrants) / trial.num_seeds,
    }


def rows_of(entrants: Sequence[FreshnessEntrant], tested: Tested, num_videos: int) -> list[Result]:
    """Return the figures of each of `ALL_AGES`: measures, intervals, and what is lost.

    ``lost`` is the measure of `FRESHEST` minus this one, case by case: that both have the same
    users makes its interval narrower than the two of the measures suggest. Seeds are averaged.
    """
    gain_QM_by_ages = {ages: _gains(entrants, ages, num_videos) for ages in ALL_AGES}
    freshest_QM = gain_QM_by_ages[FRESHEST]
    return [
        {
            **ages._asdict(),
            "sync_s": _seconds(SYNCS_MS[ages.sync]),
            **means(gain_QM),
            "intervals": intervals(gain_QM, tested.user_ids),
            "lost": means(freshest_QM - gain_QM),
            "lost_intervals": intervals(freshest_QM - gain_QM, tested.user_ids),
        }
        for ages, gain_QM in gain_QM_by_ages.items()
    ]


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1_000


def _gains(
    entrants: Sequence[FreshnessEntrant], ages: Ages, num_videos: int
) -> Float64[np.ndarray, "Q M"]:
    each = [gains(joined(one.ranks[ages], num_videos)) for one in entrants]
    gain_QM: np.ndarray = np.mean(each, axis=0)
    return gain_QM


def _learned(trial: FreshnessTrial, *, seed: int) -> Learned:
    contender = contestants.model(
        trial.model, source="kuairand", seed=seed, overrides=trial.overrides
    )
    assert isinstance(contender, Learned)
    return contender
