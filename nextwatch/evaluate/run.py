"""One trial from the data to the figures: reads the log, lets everybody take part, sums up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.errors import DatasetError
from models.history import WindowPolicy
from nextwatch.evaluate import entrants as contestants
from nextwatch.evaluate import leave_one_out, prequential
from nextwatch.evaluate.contender import Contender
from nextwatch.evaluate.entrants import UNTIMED
from nextwatch.evaluate.logs import kuairand, ml1m, movielens
from nextwatch.evaluate.prequential import (
    AT_ONCE,
    FROZEN,
    FROZEN_WINDOWS,
    LIVE,
    Entrant,
    Tell,
    Tested,
    untold,
)
from nextwatch.evaluate.ranks import joined, summary

SOURCES = ("kuairand", "ml1m", "movielens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is run: which data, who takes part besides the baselines, how often.

    *overrides* are settings as `nextwatch.evaluate.settings.settings` takes them; *is_frozen_too*
    asks for the models' frozen copies; *window* is one of `nextwatch.evaluate.logs.kuairand.WINDOWS`.
    """

    source: str
    directory: Path
    models: Sequence[str]
    num_seeds: int = 1
    is_frozen_too: bool = True
    has_baselines: bool = True
    window: str = "test"
    overrides: Mapping[str, str] = field(default_factory=dict)
    policy: WindowPolicy = field(default_factory=WindowPolicy)


def split(text: str) -> tuple[str, Path]:
    """Return the source and the folder that ``kuairand:DIR`` names.

    Raises:
        DatasetError: there is no such source.
    """
    source, _, directory = text.partition(":")
    if source not in SOURCES or not directory:
        known = ", ".join(f"{name}:DIR" for name in SOURCES)
        raise DatasetError(f"unknown data {text!r}; known: {known}")
    return source, Path(directory)


def run(trial: Trial, *, tell: Tell = untold) -> dict[str, Any]:
    """Return the figures of *trial*: ``models`` and ``baselines`` by name, and what was run.

    Raises:
        DatasetError: with the remedy, when files or an extra are missing or damaged.
        ValueError: there is no such model, or a setting of it is none.
    """
    is_untimed = trial.source == UNTIMED
    entrants = _entrants(trial, is_untimed=is_untimed)
    everybody = [one for those in entrants.values() for one in those]
    tell("reading", 0.0)
    if is_untimed:
        halves = ml1m.read(trial.directory, policy=trial.policy)
        tested = leave_one_out.run(halves, everybody, tell=tell)
        num_videos = len(halves.uploads)
    else:
        log = (
            movielens.read(trial.directory)
            if trial.source == "movielens"
            else kuairand.read(trial.directory, window=trial.window)
        )
        tested = prequential.replay(log, everybody, policy=trial.policy, tell=tell)
        num_videos = len(log.uploads)
    if not tested.user_ids:
        raise DatasetError(f"{trial.directory} has no case to test: nothing new is completed")
    told = {name: _told(those, tested, num_videos) for name, those in entrants.items()}
    return {
        "data": trial.source,
        "window": trial.window if trial.source == "kuairand" else None,
        "n": len(tested.user_ids),
        "num_videos": num_videos,
        "seeds": trial.num_seeds,
        "overrides": dict(trial.overrides),
        "models": {name: told[name] for name in trial.models},
        "baselines": {name: one for name, one in told.items() if name not in trial.models},
    }


def _entrants(trial: Trial, *, is_untimed: bool) -> dict[str, list[Entrant]]:
    """Return all who take part by name; a model once for each seed."""
    known = contestants.baselines(trial.source)
    entrants: dict[str, list[Entrant]] = {}
    for name, contender in known.items():
        is_measured = name in trial.models
        if trial.has_baselines or is_measured:
            is_frozen_too = is_measured and trial.is_frozen_too and not is_untimed
            entrants[name] = [Entrant(name, contender, is_frozen_too, AT_ONCE)]
    for name in trial.models:
        if name not in known:
            entrants[name] = [_learner(trial, name, seed) for seed in range(trial.num_seeds)]
    return entrants


def _learner(trial: Trial, name: str, seed: int) -> Entrant:
    contender: Contender = contestants.model(
        name, source=trial.source, seed=seed, overrides=trial.overrides
    )
    is_frozen_too = trial.is_frozen_too and trial.source != UNTIMED
    return Entrant(f"{name}, seed {seed}", contender, is_frozen_too=is_frozen_too)


def _told(entrants: Sequence[Entrant], tested: Tested, num_videos: int) -> dict[str, Any]:
    """Return the figures of one contender over all of its seeds."""

    def of(way: str) -> dict[str, Any] | None:
        by_seed = [joined(one.ranks[way], num_videos) for one in entrants if one.ranks[way]]
        return summary(by_seed, tested.user_ids, tested.periods) if by_seed else None

    live = of(LIVE)
    assert live is not None, "everybody is scored"
    count = len(entrants)
    return live | {
        "frozen": of(FROZEN),
        "frozen_windows": of(FROZEN_WINDOWS),
        "train_seconds": sum(one.train_s for one in entrants) / count,
        "score_ms": 1_000 * sum(one.score_s for one in entrants) / count / live["n"],
        "seeds": count,
    }
