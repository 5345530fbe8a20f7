"""Run each contestant on a stack of its own under the same load, and check its windows."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from benchmarks.peers import oracle
from benchmarks.peers.contestants import NEXTWATCH, Contestant, Start
from benchmarks.serving.audience import ServingAudience
from benchmarks.serving.load import Load
from benchmarks.serving.rig import Drive, Rig
from nextwatch.embedded.process.process import Child

LOAD_SHARE = 0.7
CUTS = (50, 95, 99)
_WARM_UP = 500
_MOST_WARM_UPS = 8
_JOIN_S = 60.0
_PATIENCE_S = 120.0
_STOP_S = 15.0


@dataclass(frozen=True)
class ContestRun:
    """The figures of one run."""

    answers_eps: float
    latency_ms: Mapping[str, float]
    worker_cpu_ms: float
    rss_mb: float
    num_unanswered: int
    num_degraded: int
    num_wrong: int


@dataclass
class Standing:
    """All runs of one contestant."""

    contestant: Contestant
    saturated: list[ContestRun] = field(default_factory=list)
    paced: list[ContestRun] = field(default_factory=list)
    at_own_pace: list[ContestRun] = field(default_factory=list)
    own_rate_eps: float = 0.0

    @property
    def answers_eps(self) -> float:
        """The median of the runs at saturation, in recommendations a second."""
        return statistics.median(run.answers_eps for run in self.saturated)

    @property
    def runs(self) -> list[ContestRun]:
        """All runs of all kinds."""
        return [*self.saturated, *self.paced, *self.at_own_pace]


@dataclass(frozen=True)
class Contest:
    """What all contestants share: users, their first windows, load and repeats."""

    root: Path
    audience: ServingAudience
    seeds: Mapping[str, bytes]
    num_events: int
    num_workers: int
    seconds: float
    repeats: int
    say: Callable[[str], None]

    def saturated(self, start: Start) -> ContestRun:
        """Send everything at once."""
        load = Load(num_events=self.num_events, first_event=_WARM_UP, patience_s=_PATIENCE_S)
        return self._run(start, load)

    def paced(self, start: Start, rate_eps: float) -> ContestRun:
        """Send *rate_eps* events a second, whatever becomes of them."""
        load = Load(
            num_events=int(rate_eps * self.seconds), rate_eps=rate_eps, first_event=_WARM_UP
        )
        return self._run(start, load)

    def _run(self, start: Start, load: Load) -> ContestRun:
        with start.running(self.audience, self.root, num_workers=self.num_workers) as rig:
            _warm(rig)
            drive = rig.drive(load)
            for worker in rig.workers:
                worker.stop(_STOP_S)
            wrong = oracle.num_wrong(rig.stack.kafka, self.seeds, start.contestant.changelog)
        run = _run_of(drive, wrong)
        self.say(f"{start.contestant.name}: {run}")
        return run


def hold(contest: Contest, starts: Sequence[Start]) -> tuple[list[Standing], float]:
    """Run each contestant as often as asked; return the standings, and the rate common to all.

    They take turns, so that a machine that is busy for a while slows all of them. The common
    rate is 70 % of what the slowest can.
    """
    standings = [Standing(start.contestant) for start in starts]
    pairs = list(zip(starts, standings, strict=True))
    for _ in range(contest.repeats):
        for start, standing in pairs:
            standing.saturated.append(contest.saturated(start))
    common_eps = LOAD_SHARE * min(standing.answers_eps for standing in standings)
    for _ in range(contest.repeats):
        for start, standing in pairs:
            standing.paced.append(contest.paced(start, common_eps))
            if standing.contestant is NEXTWATCH and len(pairs) > 1:
                standing.own_rate_eps = LOAD_SHARE * standing.answers_eps
                standing.at_own_pace.append(contest.paced(start, standing.own_rate_eps))
    return standings, common_eps


def _warm(rig: Rig) -> None:
    """Answer some hundred events, until all workers have joined and take their share of them.

    Being a member of the group is not yet working; processor time tells.
    """
    for _ in range(_MOST_WARM_UPS):
        before_s = [_cpu_s(worker) for worker in rig.workers]
        drive = rig.drive(Load(num_events=_WARM_UP, patience_s=_JOIN_S))
        if drive.measured.num_unanswered:
            raise RuntimeError(f"unanswered: {drive.measured.num_unanswered} of the warm-up")
        pairs = zip(rig.workers, before_s, strict=True)
        spent_s = [_cpu_s(worker) - earlier_s for worker, earlier_s in pairs]
        if min(spent_s) > max(spent_s) / 2:
            return
    raise RuntimeError(f"the workers do not share the work: {spent_s} s of processor time")


def _cpu_s(worker: Child) -> float:
    times = psutil.Process(worker.pid).cpu_times()
    return float(times.user + times.system)


def _run_of(drive: Drive, wrong: int) -> ContestRun:
    measured = drive.measured
    latency_ms = measured.latency_ms()
    cuts = np.percentile(latency_ms, CUTS) if len(latency_ms) else [float("nan")] * len(CUTS)
    return ContestRun(
        answers_eps=round(float(measured.rates()[0]), 1),
        latency_ms={f"p{cut}": round(float(at), 1) for cut, at in zip(CUTS, cuts, strict=True)},
        worker_cpu_ms=drive.cpu_ms_per_event()["worker"],
        rss_mb=round(drive.peak_rss_mb, 1),
        num_unanswered=measured.num_unanswered,
        num_degraded=measured.num_degraded,
        num_wrong=wrong,
    )
