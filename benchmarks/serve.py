"""Measure the serving path under load, beside a lower bound: ``python -m benchmarks.serve``.

Progress goes to standard error; the last line of standard output is one JSON object. Figures
are medians of the repeats, with the lowest and highest beside them as ``..._range``.

* ``floor_eps``         users a second through tower, search and ranking alone: the lower bound of
                        the cost, from ``benchmarks/serving/lower_bound.py``
* ``serve_eps``         recomputed recommendations a second, at saturation, in steady state
* ``events_eps``        events answered by them: several of one user may share one
* ``workers_2_eps``     ``serve_eps`` of two workers, ``workers_2_ratio`` to that of one
* ``cpu_ms_per_event``  by process, and by thread of the worker
* ``stage_ms_per_event``  by the worker's own account: processor time, and wall time
* ``latency_ms``        from when an event was meant to be sent, at 70 % of ``serve_eps``
* ``ingest_eps``        events a second into windows, store and changelog alone
* ``gib_per_million_users``  what 200,000 users of 50 watches add to the worker's memory, times 5
* ``hotkey``, ``burst`` one user with 1,000 events/s; 50,000 events at once
* ``feature_log``       answers/s with the features of all recommendations logged, by those without
* ``metrics``           ``cpu_ratio``: CPU of an event in a worker that records metrics and is
                        scraped every second, by that in one beside it that does neither;
                        ``cost_share``: the share of the CPU that recording and scrapes take
* ``load_1m``           the load average before anything started: above 0.5, others took part
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.serving import figures, metrics_cost
from benchmarks.serving.audience import ServingAudience
from benchmarks.serving.catalogue import open_catalogue
from benchmarks.serving.figures import LOAD_SHARE, Report, ServingBench
from benchmarks.serving.rig import NUM_PARTITIONS
from contract.process.clock import system_clock

EXTREMES = {
    "ingest": figures.ingest,
    "memory": figures.memory,
    "hotkey": figures.hotkey,
    "burst": figures.burst,
    "feature_log": figures.feature_log,
    "metrics": metrics_cost.metrics,
}
PARTS = ("floor", "serve", "latency", *EXTREMES)


def main() -> None:
    """Measure what the command line says, and print it."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # stacks and files go, as after Ctrl-C
    parts = given.only or PARTS
    load_1m = round(os.getloadavg()[0], 2)
    root = given.root.resolve()
    audience = ServingAudience(open_catalogue(root, given.videos), given.users, system_clock())
    report: Report = {"load_1m": load_1m, "cpus": os.cpu_count()}
    report |= {
        "search": given.search,
        "brokers": given.brokers,
        "videos": given.videos,
        "users": given.users,
        "events": given.events,
    }
    with tempfile.TemporaryDirectory(dir=root) as directory:
        windows = Path(directory) / "windows"
        _say("filling the stores with the users' windows")
        audience.fill_stores(windows, num_partitions=NUM_PARTITIONS, clock=system_clock)
        bench = ServingBench(
            *(root, audience, windows),
            num_events=given.events,
            seconds=given.seconds,
            repeats=given.repeats,
            search=given.search,
            num_brokers=given.brokers,
            say=_say,
        )
        report |= figures.throughput(
            bench, given.workers, has_lower_bound="floor" in parts, has_stack="serve" in parts
        )
        if "latency" in parts:
            rate_eps = given.rate or LOAD_SHARE * report["serve_eps"]
            report |= figures.latency(bench, rate_eps)
        for name, measure in EXTREMES.items():
            if name in parts:
                report |= measure(bench)
    print(json.dumps(report))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", type=Path, default=Path(".nextwatch/bench"), help="what is kept")
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=20_000, help="all with 50 watches")
    parser.add_argument("--events", type=int, default=12_000, help="of a run at saturation")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a run at a given rate")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rate", type=float, help="events/s for the latency, instead of 70 %%")
    parser.add_argument("--workers", type=_numbers, default=[1, 2], help="such as 1,2")
    parser.add_argument(
        "--search", choices=("index", "memory"), default="index", help="NEXTWATCH_STREAMS_SEARCH"
    )
    parser.add_argument(
        "--brokers", type=int, choices=(1, 3), default=1, help="three: a cluster with factor 3"
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="may be given repeatedly")
    parser.add_argument("--json", action="store_true", help="changes nothing: it is always JSON")
    given = parser.parse_args()
    parts = given.only or PARTS
    if "latency" in parts and not given.rate and not ("serve" in parts and 1 in given.workers):
        parser.error("the latency needs --rate, or a run of one worker before it")
    return given


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
