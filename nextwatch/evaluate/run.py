"""Run one trial: read the log, evaluate all contenders, sum up."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.errors import DatasetError
from models.history.history import WindowPolicy
from nextwatch.evaluate import entrants as contestants
from nextwatch.evaluate import leave_one_out, prequential
from nextwatch.evaluate.contender import UNTIMED, Contender
from nextwatch.evaluate.entrants import Start
from nextwatch.evaluate.kept import Kept, KeptRun
from nextwatch.evaluate.logs import kuairand, ml1m, movielens
from nextwatch.evaluate.prequential import (
    AT_ONCE,
    COUNTERS_ONLY,
    FROZEN,
    FROZEN_WINDOWS,
    LIVE,
    Entrant,
    Tell,
    Tested,
    ignore_progress,
)
from nextwatch.evaluate.ranks import joined, summary

FIRST_START = ", first start"
SOURCES = ("kuairand", "ml1m", "movielens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The options of a trial: its data, its models, its seeds.

    *overrides* are settings as `nextwatch.evaluate.settings.settings` takes them; *is_frozen_too*
    asks for the models' stopped copies; *has_first_start* for models that start beside windows
    alone, where those in question learn histories; *start* is what is known before the log; with
    *backlog_passes*, and nothing known, a model learns nothing before the window, and then the
    watches until there in so many passes; *kept* is where runs are kept and found
    again; *window* is one of `nextwatch.evaluate.logs.kuairand.WINDOWS`.
    """

    source: str
    directory: Path
    models: Sequence[str]
    num_seeds: int = 1
    is_frozen_too: bool = True
    has_baselines: bool = True
    has_first_start: bool = True
    start: Start = "histories"
    backlog_passes: int = 0
    window: str = "test"
    overrides: Mapping[str, str] = field(default_factory=dict)
    policy: WindowPolicy = field(default_factory=WindowPolicy)
    kept: Path | None = None


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


def run(trial: Trial, *, tell: Tell = ignore_progress) -> dict[str, Any]:
    """Return the figures of *trial*: ``models`` and ``baselines`` by name, and what was run.

    Raises:
        DatasetError: with the remedy, when files or an extra are missing or damaged.
        ValueError: there is no such model, or a setting of it is none.
    """
    entrants = _entrants(trial)
    everybody = [one for those in entrants.values() for one in those]
    runs, tested = _runs(trial, everybody, tell)
    if not tested.user_ids:
        raise DatasetError(f"{trial.directory} has no case to test: nothing new is completed")
    told = {
        name: _told([runs[one.name] for one in those], tested) for name, those in entrants.items()
    }
    return {
        "data": trial.source,
        "window": trial.window if trial.source == "kuairand" else None,
        "n": len(tested.user_ids),
        "num_videos": len(runs[everybody[0].name].tallies[LIVE].num_shown_N),
        "seeds": trial.num_seeds,
        "start": trial.start,
        "backlog_passes": trial.backlog_passes,
        "overrides": dict(trial.overrides),
        "models": {
            name: told[name] | {"first_start": told.get(name + FIRST_START)}
            for name in trial.models
        },
        "baselines": {
            name: one
            for name, one in told.items()
            if name.removesuffix(FIRST_START) not in trial.models
        },
    }


def _runs(
    trial: Trial, everybody: Sequence[Entrant], tell: Tell
) -> tuple[dict[str, KeptRun], Tested]:
    """Return what everybody came to, by name, and the cases.

    All go through the log side by side; where runs are kept, one after another, so that each is
    there as soon as it is done.
    """
    if trial.kept is None:
        return _measured(trial, everybody, tell)
    kept, found, tested = Kept(trial.kept / trial.source), {}, Tested()
    for one in everybody:
        what = _what(trial, one)
        there = kept.get(one.name, what)
        if there is None:
            runs, tested = _measured(trial, [one], tell)
            kept.put(one.name, what, runs[one.name], tested)
            there = runs[one.name], tested
        found[one.name], tested = there
    return found, tested


def _measured(
    trial: Trial, entrants: Sequence[Entrant], tell: Tell
) -> tuple[dict[str, KeptRun], Tested]:
    tell("reading", 0.0)
    tested, num_videos = _measure(trial, entrants, tell)
    runs = {}
    for one in entrants:
        tallies = {way: joined(ranks, num_videos) for way, ranks in one.ranks.items() if ranks}
        runs[one.name] = KeptRun(tallies, one.train_s, one.score_s)
    return runs, tested


def _measure(trial: Trial, entrants: Sequence[Entrant], tell: Tell) -> tuple[Tested, int]:
    """Take the log through *entrants*; return the cases, and how many videos there are."""
    if trial.source == UNTIMED:
        halves = ml1m.read(trial.directory, policy=trial.policy)
        return leave_one_out.run(halves, entrants, tell=tell), len(halves.uploads)
    log = (
        movielens.read(trial.directory)
        if trial.source == "movielens"
        else kuairand.read(trial.directory, window=trial.window)
    )
    if trial.start == "nothing":
        log = dataclasses.replace(log, histories=())
    return prequential.replay(log, entrants, policy=trial.policy, tell=tell), len(log.uploads)


def _what(trial: Trial, one: Entrant) -> dict[str, Any]:
    """Return what a kept run must have been run with to count for *one*."""
    files = sorted(path for path in trial.directory.glob("*") if path.is_file())
    return {
        "files": [(path.name, path.stat().st_size) for path in files],
        "window": trial.window,
        "overrides": dict(trial.overrides),
        "policy": dataclasses.asdict(trial.policy),
        "start": trial.start,
        "backlog_passes": trial.backlog_passes,
        "is_frozen_too": one.is_frozen_too,
    }


def _entrants(trial: Trial) -> dict[str, list[Entrant]]:
    """Return all who take part by name; a model once for each seed."""
    known = contestants.baselines(trial.source, start=trial.start)
    entrants: dict[str, list[Entrant]] = {}
    for name, contender in known.items():
        is_measured = name in trial.models
        if trial.has_baselines or is_measured:
            is_frozen_too = is_measured and trial.is_frozen_too and trial.source != UNTIMED
            entrants[name] = [Entrant(name, contender, is_frozen_too, AT_ONCE)]
    for name in trial.models:
        if name not in known:
            entrants[name] = _learners(trial, name, trial.start)
            is_told_cold = trial.start == "histories" and trial.source == "kuairand"
            if trial.has_first_start and is_told_cold:
                entrants[name + FIRST_START] = _learners(trial, name, "windows")
    return entrants


def _learners(trial: Trial, name: str, start: Start) -> list[Entrant]:
    return [_learner(trial, name, seed, start) for seed in range(trial.num_seeds)]


def _learner(trial: Trial, name: str, seed: int, start: Start) -> Entrant:
    contender: Contender = contestants.model(
        name,
        source=trial.source,
        seed=seed,
        overrides=trial.overrides,
        start=start,
        backlog_passes=trial.backlog_passes if start == "nothing" else 0,
    )
    is_as_asked = start == trial.start
    is_frozen_too = trial.is_frozen_too and trial.source != UNTIMED and is_as_asked
    suffix = "" if is_as_asked else FIRST_START
    return Entrant(f"{name}{suffix}, seed {seed}", contender, is_frozen_too=is_frozen_too)


def _told(runs: Sequence[KeptRun], tested: Tested) -> dict[str, Any]:
    """Return the figures of one contender over all of its seeds."""

    def of(way: str) -> dict[str, Any] | None:
        by_seed = [one.tallies[way] for one in runs if way in one.tallies]
        cases = tested.user_ids, tested.periods, tested.is_cold
        return summary(by_seed, *cases) if by_seed else None

    live = of(LIVE)
    assert live is not None, "everybody is scored"
    count = len(runs)
    return live | {
        "counters_only": of(COUNTERS_ONLY),
        "frozen": of(FROZEN),
        "frozen_windows": of(FROZEN_WINDOWS),
        "train_seconds": sum(one.train_s for one in runs) / count,
        "score_ms": 1_000 * sum(one.score_s for one in runs) / count / live["n"],
        "seeds": count,
    }
