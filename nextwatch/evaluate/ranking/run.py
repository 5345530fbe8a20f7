"""Run one evaluation of rankers: read the log, let all score and learn, sum up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contract.errors import DatasetError
from nextwatch.evaluate.prequential import Tell, ignore_progress
from nextwatch.evaluate.ranking import entrants as contestants
from nextwatch.evaluate.ranking import figures, protocols, trial_log
from nextwatch.evaluate.ranking.figures import TestedExposures
from nextwatch.evaluate.ranking.protocols import Period, Protocol
from nextwatch.evaluate.ranking.replay import (
    FROZEN,
    LIVE,
    OWN_STILL,
    RankEntrant,
    ScoreColumns,
    replay,
)
from nextwatch.evaluate.ranking.trial_log import RankLog

Result = dict[str, Any]
_BAND = 0.01
"""How far from chance the control may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTrial:
    """The options of an evaluation of rankers; no *models* is all but the ablations."""

    directory: Path
    protocol: str = "prequential"
    window: str = "test"
    models: Sequence[str] = ()
    num_seeds: int = 1


def run(trial: RankTrial, *, tell: Tell = ignore_progress) -> Result:
    """Return the figures of *trial* by contender under ``contenders``, and what was run.

    The control is always among them.

    Raises:
        DatasetError: with the remedy, when files, models or an extra are missing or damaged.
    """
    protocol = protocols.protocol(trial.protocol, window=trial.window)
    by_name = _entrants(trial, protocol)
    tell("reading", 0.0)
    log = trial_log.read(trial.directory)
    replay(log, protocol, [one for those in by_name.values() for one in those], tell=tell)
    told: dict[str, Result] = {}
    for place, (name, those) in enumerate(by_name.items()):
        tell(f"summing up {name}", place / len(by_name))
        told[name] = summary(log, protocol, those)
    sample = _sample(log, protocol, protocol.periods[-1])
    control = told[contestants.CONTROL]["gauc"]
    return {
        "data": "kuairand",
        "protocol": protocol.name,
        "label": protocol.label,
        "period": protocol.periods[-1].name,
        "n": len(sample.user),
        "num_users": int(sample.user.max(initial=-1)) + 1,
        "positive_share": float(sample.outcomes.is_positive_B.mean()),
        "seeds": trial.num_seeds,
        "is_control_at_chance": abs(control - 0.5) <= _BAND,
        "contenders": told,
    }


def _entrants(trial: RankTrial, protocol: Protocol) -> Mapping[str, list[RankEntrant]]:
    known = contestants.contenders()
    contestants.check(list(trial.models))
    names = dict.fromkeys([*(trial.models or contestants.everybody()), contestants.CONTROL])
    return {
        name: [
            RankEntrant(name, known[name](seed), has_frozen=_has_frozen(name, protocol))
            for seed in range(1 if name in contestants.UNSEEDED else trial.num_seeds)
        ]
        for name in names
    }


def _has_frozen(name: str, protocol: Protocol) -> bool:
    return protocol.is_frozen_too and name != contestants.CONTROL


def _which(log: RankLog, period: Period, last_day: str) -> np.ndarray:
    day = np.array(log.log.period, np.str_)
    which: np.ndarray = (day >= period.first) & (day <= min(period.last, last_day))
    return which


def _sample(log: RankLog, protocol: Protocol, period: Period) -> TestedExposures:
    whole = slice(0, len(log))
    sample = TestedExposures(
        log.user,
        np.array(log.log.period, np.str_),
        log.log.duration_ms / 1000,
        log.outcomes(whole, protocol.label),
    ).part(_which(log, period, protocol.last_day))
    if not len(sample.user):
        raise DatasetError(f"the log has no exposure of {period.name}")
    return sample


def summary(log: RankLog, protocol: Protocol, entrants: Sequence[RankEntrant]) -> Result:
    """Return the figures of one contender; *entrants* are its seeds."""
    last = protocol.periods[-1]
    told = _of_period(log, protocol, last, entrants)
    told["periods"] = {
        period.name: _mean_of_days(log, protocol, period, entrants)
        if period.is_by_day
        else _of_period(log, protocol, period, entrants, is_brief=True)
        for period in protocol.periods[:-1]
        if _which(log, period, protocol.last_day).any()
    }
    told["train_seconds"] = float(np.mean([one.train_s for one in entrants]))
    told["score_ms"] = 1_000 * float(np.mean([one.score_s for one in entrants])) / max(told["n"], 1)
    return told


def _of_period(
    log: RankLog,
    protocol: Protocol,
    period: Period,
    entrants: Sequence[RankEntrant],
    *,
    is_brief: bool = False,
) -> Result:
    """Return the figures of *period*; *is_brief* leaves out intervals, days and calibration."""
    which, sample = _which(log, period, protocol.last_day), _sample(log, protocol, period)
    still = _columns(entrants, OWN_STILL, which)
    live = _columns(entrants, LIVE, which)
    times_RU = None if is_brief else figures.draws(int(sample.user.max()) + 1)
    order, order_bounds = figures.order_summary(sample, still, protocol, times_RU)
    single, single_bounds = figures.exposure_summary(sample, live, times_RU)
    told: Result = {**single, **order, "n": len(sample.user)}
    if is_brief:
        return told
    told["intervals"] = single_bounds | order_bounds
    told["per_day"] = {
        day: _brief(sample, still, live, sample.day == day, protocol)
        for day in sorted(set(sample.day.tolist()))
    }
    told["calibration"] = figures.calibration(sample, live)
    told["own_state_live"] = {
        "gauc": figures.order_summary(sample, live, protocol, None)[0]["gauc"],
        "note": "misleading: a user's running rate leaves out the exposure that is scored",
    }
    told["own_state_still"] = {
        name: value
        for name, value in figures.exposure_summary(sample, still, None)[0].items()
        if name in ("auc", "log_loss")
    }
    if FROZEN in entrants[0].scores:
        frozen = _columns(entrants, FROZEN, which)
        order, order_bounds = figures.order_summary(sample, frozen, protocol, times_RU)
        single, _ = figures.exposure_summary(sample, frozen, None)
        told["frozen"] = {**single, **order, "intervals": order_bounds}
    return told


def _brief(
    sample: TestedExposures,
    still: Sequence[ScoreColumns],
    live: Sequence[ScoreColumns],
    which: np.ndarray,
    protocol: Protocol,
) -> Result:
    part = sample.part(which)
    order, _ = figures.order_summary(
        part, [figures.part_of(one, which) for one in still], protocol, None
    )
    single, _ = figures.exposure_summary(part, [figures.part_of(one, which) for one in live], None)
    return {**single, **order, "n": len(part.user)}


def _mean_of_days(
    log: RankLog, protocol: Protocol, period: Period, entrants: Sequence[RankEntrant]
) -> Result:
    """Return each figure of order within users as the mean of those of the days of *period*."""
    which, sample = _which(log, period, protocol.last_day), _sample(log, protocol, period)
    still, live = _columns(entrants, OWN_STILL, which), _columns(entrants, LIVE, which)
    days = {
        day: _brief(sample, still, live, sample.day == day, protocol)
        for day in sorted(set(sample.day.tolist()))
    }
    names = next(iter(days.values()))
    mean = {name: float(np.mean([day[name] for day in days.values()])) for name in names}
    return {**mean, "n": len(sample.user), "per_day": days}


def _columns(
    entrants: Sequence[RankEntrant], reading: str, which: np.ndarray
) -> list[ScoreColumns]:
    found = [figures.part_of(one.scores[reading], which) for one in entrants]
    assert all(np.isfinite(scores.p).all() for scores in found), "every tested exposure is scored"
    return found
