"""Measure the serving path: each function returns its part of the report.

Every run has a stack of its own, so that none pays for what another left behind.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from benchmarks.serving.audience import ServingAudience
from benchmarks.serving.load import Load, Measured
from benchmarks.serving.lower_bound import NUM_CANDIDATES
from benchmarks.serving.rig import NUM_PARTITIONS, Drive, Rig, running
from contract.process.clock import system_clock

Report = dict[str, Any]

USUAL_BATCH = 64
LOAD_SHARE = 0.7
MIB_PER_GIB = 1_024
_WARM_UP = 500
_CUTS = {"p50": 50, "p95": 95, "p99": 99}
_HOT_EPS, _OTHERS_EPS = 1_000.0, 200.0
_BURST_EVENTS = 50_000
_PATIENCE_S = 600.0
_MANY_USERS = 200_000
_TOUCHED_USERS, _PORTION_USERS = 30_000, 5_000
"""Enough for RocksDB's cache to be full of their blocks; no user comes twice."""

_INGEST_EVENTS = 40_000


@dataclass(frozen=True)
class ServingBench:
    """Run stacks and loads. *windows* are the stores that workers start with.

    *search* says where the workers, and the lower bound, look for the nearest videos.
    """

    root: Path
    audience: ServingAudience
    windows: Path
    num_events: int
    seconds: float
    repeats: int
    search: str
    num_brokers: Literal[1, 3]
    say: Callable[[str], None]

    def rig(
        self, num_workers: int = 1, *, is_empty: bool = False, env: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Rig]:
        """Return a new stack; its workers start with no windows at all if it *is_empty*."""
        windows = None if is_empty else self.windows
        return running(
            self.audience,
            root=self.root,
            windows=windows,
            num_workers=num_workers,
            num_brokers=self.num_brokers,
            env={**self.settings, **(env or {})},
        )

    @property
    def settings(self) -> dict[str, str]:
        """The settings that every worker has."""
        return {
            "NEXTWATCH_STREAMS_NUM_CANDIDATES": str(NUM_CANDIDATES),
            "NEXTWATCH_STREAMS_SEARCH": self.search,
        }

    def saturated(self, num_workers: int) -> tuple[Drive, dict[str, float]]:
        """Send everything at once; return what came of it, and the workers' stages."""
        with self.rig(num_workers) as rig:
            return warm(rig).drive(self.everything), rig.stages()

    @property
    def everything(self) -> Load:
        """All events at once, after those of the warm-up."""
        return Load(num_events=self.num_events, first_event=_WARM_UP)

    def lower_bound_eps(self, batch: int) -> float:
        """Measure the lower bound in a process of its own, single-threaded."""
        argv = [sys.executable, "-m", "benchmarks.serving.lower_bound", "--root", str(self.root)]
        argv += ["--videos", str(self.audience.catalogue.num_videos), "--batch", str(batch)]
        argv += ["--search", self.search]
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        done = subprocess.run(  # noqa: S603 - our own program
            argv, env=os.environ | one_thread, stdout=subprocess.PIPE, check=True
        )
        return float(json.loads(done.stdout)["floor_eps"])


def throughput(
    bench: ServingBench, workers: Sequence[int], *, has_lower_bound: bool, has_stack: bool
) -> Report:
    """Measure answers a second at saturation, by number of workers, and those of the lower bound.

    Stack and lower bound take turns, so that a machine that is busy for a while slows both.
    """
    rates: dict[str, list[float]] = {}
    runs: list[tuple[Drive, dict[str, float]]] = []
    batch = USUAL_BATCH
    for repeat in range(bench.repeats):
        for number in workers if has_stack else ():
            drive, stages = bench.saturated(number)
            answers_eps, events_eps = drive.measured.rates()
            bench.say(f"{repeat}: {number} workers {answers_eps:.0f} answers/s {flaws(drive)}")
            if number == 1:
                runs.append((drive, stages))
                rates.setdefault("serve_eps", []).append(answers_eps)
                rates.setdefault("events_eps", []).append(events_eps)
                batch = round(stages["events"] / stages["batches"]) if stages else batch
            else:
                rates.setdefault(f"workers_{number}_eps", []).append(answers_eps)
        if has_lower_bound:
            rates.setdefault("floor_eps", []).append(bench.lower_bound_eps(batch))
            bench.say(f"{repeat}: floor {rates['floor_eps'][-1]:.0f}/s in batches of {batch}")
    report: Report = {"floor_batch": batch} if has_lower_bound else {}
    for name, values in rates.items():
        report |= _spread(name, values)
    for name in report.keys() & {f"workers_{number}_eps" for number in workers}:
        if "serve_eps" in report:
            report[name.replace("_eps", "_ratio")] = round(report[name] / report["serve_eps"], 3)
    if {"floor_eps", "serve_eps"} <= report.keys():
        report["ratio_to_floor"] = round(report["serve_eps"] / report["floor_eps"], 3)
    return report | (_costs(runs) if runs else {})


def latency(bench: ServingBench, rate_eps: float) -> Report:
    """Measure latencies at *rate_eps*, from the time each event was meant to be sent."""
    drives = []
    for _ in range(bench.repeats):
        with bench.rig() as rig:
            num_events = int(rate_eps * bench.seconds)
            load = Load(num_events=num_events, rate_eps=rate_eps, first_event=_WARM_UP)
            drives.append(warm(rig).drive(load))
            stages = rig.stages()
        cuts = _cuts(drives[-1].measured)
        bench.say(f"latency at {rate_eps:.0f}/s: {cuts} {flaws(drives[-1])}")
    each = [_cuts(drive.measured) for drive in drives]
    return {
        "latency_ms": {name: statistics.median(cuts[name] for cuts in each) for name in _CUTS},
        "latency_ms_range": {
            name: [min(cuts[name] for cuts in each), max(cuts[name] for cuts in each)]
            for name in _CUTS
        },
        "latency_rate_eps": round(rate_eps, 1),
        "latency_unanswered": sum(drive.measured.num_unanswered for drive in drives),
        "latency_degraded": sum(drive.measured.num_degraded for drive in drives),
        "latency_cpu_ms_per_event": drives[-1].cpu_ms_per_event(),
        "latency_events_per_batch": round(stages["events"] / stages["batches"], 1),
        "latency_stage_ms_per_batch": _per("batches", stages),
    }


def ingest(bench: ServingBench) -> Report:
    """Measure events a second into windows, store and changelog, without recommendations."""
    rates = []
    for _ in range(bench.repeats):
        with bench.rig(env={"NEXTWATCH_STREAMS_RECOMMEND": "false"}) as rig:
            rates.append(rig.ingest_eps(_INGEST_EVENTS))
        bench.say(f"ingest: {rates[-1]:.0f} events/s")
    return _spread("ingest_eps", rates)


def memory(bench: ServingBench) -> Report:
    """Measure the worker's memory with no users, and with 200,000 of 50 watches in its stores.

    Both workers answer the same events of the same 30,000 users, the first one as if nobody had a
    history. The stores are written as a worker leaves them, and the changelog is empty.
    """
    many = replace(bench.audience, num_users=_MANY_USERS)
    with TemporaryDirectory(dir=bench.root) as directory:
        bench.say(f"memory: writing the windows of {_MANY_USERS} users")
        windows = Path(directory) / "windows"
        many.fill_stores(windows, num_partitions=NUM_PARTITIONS, clock=system_clock)
        disk_mb = sum(file.stat().st_size for file in windows.rglob("*") if file.is_file()) / 2**20
        bench = replace(bench, audience=many, windows=windows)
        found = {}
        for is_empty in (True, False):
            with bench.rig(is_empty=is_empty) as rig:
                for first in range(0, _TOUCHED_USERS, _PORTION_USERS):
                    rig.drive(Load(num_events=_PORTION_USERS, first_event=first))
                found[is_empty] = rig.rss_mb()
            bench.say(f"memory: {found[is_empty]:.0f} MiB")
    per_user_mb = (found[False] - found[True]) / _MANY_USERS
    return {
        "rss_mb_at_0": round(found[True], 1),
        "rss_mb_at_200k": round(found[False], 1),
        "gib_per_million_users": round(1e6 * per_user_mb / MIB_PER_GIB, 3),
        "disk_mb_at_200k": round(disk_mb, 1),
        "memory_users_touched": _TOUCHED_USERS,
    }


def hotkey(bench: ServingBench) -> Report:
    """Measure what 1,000 events/s of one user do to the others, who send 200 events/s."""
    report: Report = {}
    for name, hot_eps in (("without", 0.0), ("with", _HOT_EPS)):
        load = Load(
            num_events=int(_OTHERS_EPS * bench.seconds),
            rate_eps=_OTHERS_EPS,
            hot_rate_eps=hot_eps,
            first_event=_WARM_UP,
        )
        with bench.rig() as rig:
            drive = warm(rig).drive(load)
        measured = drive.measured
        report[name] = _cuts(measured) | {"unanswered": measured.num_unanswered}
        report[name]["rss_mb"] = round(drive.peak_rss_mb, 1)
        if hot_eps:
            report["hot_user"] = _cuts(measured, is_hot=True)
            report["answers_per_event"] = round(
                len(measured.received_s_A) / len(measured.meant_s_E), 3
            )
        bench.say(f"hot key, {name}: {report[name]}")
    return {"hotkey": report}


def burst(bench: ServingBench) -> Report:
    """Measure memory, time and answers when 50,000 events come at once."""
    load = Load(num_events=_BURST_EVENTS, first_event=_WARM_UP, patience_s=_PATIENCE_S)
    with bench.rig() as rig:
        before_mb = warm(rig).rss_mb()
        drive = rig.drive(load)
    found = {
        "events": _BURST_EVENTS,
        "rss_mb_before": round(before_mb, 1),
        "rss_mb_peak": round(drive.peak_rss_mb, 1),
        "drained_s": round(drive.measured.drained_s, 1),
        **flaws(drive),
    }
    bench.say(f"burst: {found}")
    return {"burst": found}


def feature_log(bench: ServingBench) -> Report:
    """Measure what it costs to log the features of all recommendations, beside logging none.

    Both take turns. The cost is that of throughput, and the processor's time of the worker.
    """
    rates: dict[str, list[float]] = {"0.0": [], "1.0": []}
    cost: dict[str, dict[str, float]] = {}
    for _ in range(bench.repeats):
        for share, found in rates.items():
            with bench.rig(env={"NEXTWATCH_STREAMS_RANKING_LOG_SHARE": share}) as rig:
                drive = warm(rig).drive(bench.everything)
                stages = rig.stages()
            found.append(drive.measured.rates()[0])
            cost[share] = drive.cpu_ms_per_event() | _per("events", stages)
            bench.say(f"feature log, share {share}: {found[-1]:.0f} answers/s {flaws(drive)}")
    by_share = {share: statistics.median(found) for share, found in rates.items()}
    return {
        "feature_log": {
            "eps_by_share": {share: round(eps, 1) for share, eps in by_share.items()},
            "last_cpu_ms_by_share": {
                share: {name: ms for name, ms in found.items() if not name.endswith("_wall")}
                for share, found in cost.items()
            },
            "ratio": round(by_share["1.0"] / by_share["0.0"], 3),
        }
    }


def warm(rig: Rig) -> Rig:
    """Drive a first load, so that threads, caches and connections are warm."""
    rig.drive(Load(num_events=_WARM_UP))
    return rig


def _costs(runs: Sequence[tuple[Drive, dict[str, float]]]) -> Report:
    """Return what the run of the median rate cost, and the flaws of all runs."""
    by_rate = sorted(runs, key=lambda run: run[0].measured.rates()[0])
    drive, stages = by_rate[len(by_rate) // 2]
    found = [flaws(run) for run, _ in runs]
    report: Report = {name: sum(each[name] for each in found) for name in found[0]}
    report["cpu_ms_per_event"] = drive.cpu_ms_per_event()
    if stages:
        report["stage_ms_per_event"] = _per("events", stages)
    return report | {"rss_mb": round(max(run.peak_rss_mb for run, _ in runs), 1)}


def _per(count: str, stages: Mapping[str, float]) -> dict[str, float]:
    return {
        name.removesuffix("_ms"): round(spent / stages[count], 3)
        for name, spent in stages.items()
        if name.endswith("_ms")
    }


def _cuts(measured: Measured, *, is_hot: bool = False) -> dict[str, float]:
    latency_ms = measured.latency_ms(is_hot=is_hot)
    cuts = np.percentile(latency_ms, list(_CUTS.values())) if len(latency_ms) else [np.nan] * 3
    return {name: round(float(cut), 1) for name, cut in zip(_CUTS, cuts, strict=True)}


def flaws(drive: Drive) -> dict[str, int]:
    """Return how many answers were missing, degraded or short."""
    measured = drive.measured
    return {
        "unanswered": measured.num_unanswered,
        "degraded": measured.num_degraded,
        "short_lists": measured.num_short,
    }


def _spread(name: str, values: Sequence[float]) -> Report:
    return {
        name: round(statistics.median(values), 1),
        f"{name}_range": [round(min(values), 1), round(max(values), 1)],
    }
