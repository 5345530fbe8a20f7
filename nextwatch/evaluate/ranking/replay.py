"""Replay a log of exposures: all contenders score a batch, then all learn from it.

A batch ends before the exposure that is a minute after its first one, and holds at most 64.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import process_time

import numpy as np
from numpy.typing import NDArray

from nextwatch.evaluate.prequential import Tell, ignore_progress
from nextwatch.evaluate.ranking.contender import Exposures, RankContender, Scores
from nextwatch.evaluate.ranking.protocols import Period, Protocol
from nextwatch.evaluate.ranking.trial_log import RankLog

LIVE, OWN_STILL, FROZEN = "live", "own_still", "frozen"
MOST_EXPOSURES = 64
SPAN_MS = 60_000


@dataclass(slots=True)
class RankEntrant:
    """A contender in a trial, and its scores so far by reading; nan where none was asked for."""

    name: str
    contender: RankContender
    has_frozen: bool = False
    scores: dict[str, "ScoreColumns"] = field(default_factory=dict)
    train_s: float = 0.0
    score_s: float = 0.0
    copy: RankContender | None = None

    def score(self, reading: str, rows: slice, exposures: Exposures) -> None:
        """Let the contender score *exposures* in one reading, and note it."""
        contender = self.copy if reading == FROZEN else self.contender
        if contender is None:
            return
        started_s = process_time()
        scores = contender.score(exposures, is_own_still=reading != LIVE)
        if reading == LIVE:
            self.score_s += process_time() - started_s
        self.scores[reading].note(self.name, rows, scores)


@dataclass(slots=True)
class ScoreColumns:
    """Scores of a whole log in one reading, by row; nan where none was asked for."""

    p: NDArray[np.float64]
    expected_watch_s: NDArray[np.float64]
    median_watch_s: NDArray[np.float64]

    @classmethod
    def of(cls, length: int) -> "ScoreColumns":
        """Return columns of that length without any score."""
        return cls(*(np.full(length, np.nan) for _ in dataclasses.fields(cls)))

    def note(self, name: str, rows: slice, scores: Scores) -> None:
        """Keep the scores of *rows*.

        Raises:
            ValueError: a score is not a number.
        """
        median_B = scores.median_watch_s_B
        if median_B is None:
            median_B = scores.expected_watch_s_B
        given = {
            "p": scores.p_B,
            "expected_watch_s": scores.expected_watch_s_B,
            "median_watch_s": median_B,
        }
        for field_name, value_B in given.items():
            if not np.isfinite(value_B).all():
                raise ValueError(f"{name} gave a {field_name} that is not a finite number")
            getattr(self, field_name)[rows] = value_B


def batches(time_ms: NDArray[np.int64], day: Sequence[str]) -> Iterator[slice]:
    """Yield the rows of each batch; no batch goes from one day into the next."""
    start = 0
    while start < len(time_ms):
        end = start + 1
        until_ms, most = time_ms[start] + SPAN_MS, min(start + MOST_EXPOSURES, len(time_ms))
        while end < most and time_ms[end] < until_ms and day[end] == day[start]:
            end += 1
        yield slice(start, end)
        start = end


def replay(
    log: RankLog,
    protocol: Protocol,
    entrants: Sequence[RankEntrant],
    *,
    tell: Tell = ignore_progress,
) -> None:
    """Take *log* through all *entrants* under *protocol*."""
    for place, entrant in enumerate(entrants):
        tell(f"preparing {entrant.name}", place / len(entrants))
        started_s = process_time()
        entrant.contender.prepare(log.training(protocol.label))
        entrant.train_s += process_time() - started_s
        readings = (LIVE, OWN_STILL, FROZEN) if entrant.has_frozen else (LIVE, OWN_STILL)
        entrant.scores = {reading: ScoreColumns.of(len(log)) for reading in readings}
    begun: set[str] = set()
    day = log.log.period
    for rows in batches(log.log.time_ms, day):
        if day[rows.start] > protocol.last_day:
            continue  # days overlap by minutes: an earlier one may still follow
        tell("replaying", rows.start / len(log))
        for period in protocol.periods:
            if period.first <= day[rows.start] and period.name not in begun:
                begun.add(period.name)
                _begin(period, protocol, entrants)
        _take(log, protocol, entrants, rows)


def _begin(period: Period, protocol: Protocol, entrants: Sequence[RankEntrant]) -> None:
    """Let own state stand still from here; of the last period also take the frozen copies."""
    for entrant in entrants:
        entrant.contender.hold_own_state()
        if entrant.has_frozen and period == protocol.periods[-1]:
            entrant.copy = entrant.contender.frozen()


def _take(log: RankLog, protocol: Protocol, entrants: Sequence[RankEntrant], rows: slice) -> None:
    day = log.log.period[rows.start]
    is_tested = any(period.has(day) for period in protocol.periods)
    exposures = log.exposures(rows)
    outcomes = log.outcomes(rows, protocol.label)
    learns = not (protocol.is_static and protocol.periods[-1].has(day))
    for entrant in entrants:
        if is_tested:
            for reading in entrant.scores:
                entrant.score(reading, rows, exposures)
        if learns:
            started_s = process_time()
            entrant.contender.observe(exposures, outcomes)
            entrant.train_s += process_time() - started_s
