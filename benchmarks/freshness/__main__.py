"""Measure how soon what was learned is served: ``python -m benchmarks.freshness --json``.

Two parts, each on a stack of its own with the defaults of all processes. It takes some ten minutes;
progress goes to standard error, and the last line of standard output is one JSON object. The exit
code is 1 if a target is missed.

* ``event_to_served_vector_s``  {p50, p99}: at ``--rate`` watches a second, from when a watch was
                        meant to be sent to the first answer that is made of a vector that counts
                        it. An answer tells by the features in `ranking-log`; watches by users who
                        had watched the video before change no counter and are left out. Targets:
                        1.0 s and 2.4 s. ``published`` is the part up to the record of the vector,
                        ``not_served`` how many were not served half a minute after the last
* ``event_to_served_vector_burst_s``  the same at ``--burst-rate`` watches a second; p99: 10 s
* ``new_generation_s``  from the offer of a generation to its service in streams: the trainer's of
                        the first part, a minute apart
* ``skewed_recommendations``  of ``answers_checked``, while generations are swapped without a pause:
                        answers whose user vector or item vectors are not those of the generation
                        that they name. Target: 0
* ``latency_ms``        {quiet, swapping}: p50 and p99 at ``--request-rate``; ``swap_ratio`` of the
                        two p99, target 1.5. ``sent_late_ms`` is how late the benchmark itself sent
                        the requests, which is part of it
* ``load_1m``           the load average before anything started: above 0.5, others took part

For example:

  python -m benchmarks.freshness --json                       all of it
  python -m benchmarks.freshness --only vectors --seconds 30  the first part, shorter
  python -m benchmarks.freshness --only swaps --answers 100000
  python -m benchmarks.freshness --data ../data/kuairand      watches of the log, not drawn ones
  python -m benchmarks.freshness --only vectors --set NEXTWATCH_TRAINER_FAST_PATH_S=2
"""

import argparse
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.freshness.learning import figures_of, learning_stack
from benchmarks.freshness.swaps import swap_stack
from benchmarks.freshness.traffic import drawn_plays, drawn_uploads, logged
from benchmarks.freshness.versions import percentiles
from benchmarks.json_report import exit_with, log_errors_only

PARTS = ("vectors", "swaps")
TARGETS = {
    "event_to_served_vector_s.p50": 1.0,
    "event_to_served_vector_s.p99": 2.4,
    "event_to_served_vector_burst_s.p99": 10.0,
    "skewed_recommendations": 0,
    "swap_ratio": 1.5,
}
"""The most that each figure may be."""


def main() -> None:
    """Measure what the command line says, and print it."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # stacks and files go, as after Ctrl-C
    log_errors_only()
    report: dict[str, Any] = {"load_1m": round(os.getloadavg()[0], 2), "cpus": os.cpu_count()}
    if "vectors" in given.only:
        report |= _vectors(given)
    if "swaps" in given.only:
        report |= _swaps(given)
    missed = missed_targets(report)
    exit_with({**report, "missed": missed}, is_right=not missed)


def missed_targets(report: Mapping[str, Any]) -> list[str]:
    """Return the targets that *report* has a figure for and misses; None is infinite."""
    missed = []
    for name, most in TARGETS.items():
        key, _, percentile = name.partition(".")
        if key in report:
            value = report[key][percentile] if percentile else report[key]
            if value is None or value > most:
                missed.append(f"{name} is {value}, and may be {most}")
    return missed


def _vectors(given: argparse.Namespace) -> dict[str, Any]:
    if given.data is not None:
        uploads, plays = logged(given.data)
    else:
        uploads = drawn_uploads(given.videos)
        plays = drawn_plays(uploads)
    env_of = {name: dict(given.set) for name in ("trainer", "streams", "index_sync")}
    with learning_stack(uploads, plays, say=_say, env_of=env_of) as running:
        running.run(
            f"{given.rate:g}/s", rate=given.rate, seconds=given.seconds, warm_up_s=given.warm_up
        )
        running.drain(rate=given.rate)
        if given.burst_seconds:
            name = f"{given.burst_rate:g}/s"
            running.run(name, rate=given.burst_rate, seconds=given.burst_seconds)
            running.drain(rate=given.rate)
        _say("computing what the answers were made of")
        versions, sent = running.versions(), running.sender.sent
        phases = [figures_of(versions, sent[first:last]) for first, last in running.phases.values()]
        generations_s = running.new_generations_s()
    names = ("event_to_served_vector_s", "event_to_served_vector_burst_s")
    return {
        **dict(zip(names, phases, strict=False)),
        "rates": [given.rate, given.burst_rate][: len(phases)],
        "videos": len(uploads),
        "vectors": versions.num_vectors,
        "unknown_versions": versions.num_unknown,
        "new_generation_s": {**percentiles(generations_s), "n": len(generations_s)},
    }


def _swaps(given: argparse.Namespace) -> dict[str, Any]:
    with swap_stack(drawn_uploads(given.videos), say=_say) as running:
        num_quiet = int(given.request_rate * given.quiet_seconds)
        quiet = running.ask(rate=given.request_rate, num=num_quiet, is_swapping=False)
        running.check_answers()
        num_before = running.check.num_answers
        swapping = running.ask(rate=given.request_rate, num=given.answers, is_swapping=True)
        running.check_answers()
        check, num_swaps = running.check, running.num_swaps
    phases = {"quiet": quiet, "swapping": swapping}
    latency_ms = {name: percentiles(one.latency_ms) for name, one in phases.items()}
    quiet_p99, swapping_p99 = latency_ms["quiet"]["p99"], latency_ms["swapping"]["p99"]
    return {
        "skewed_recommendations": check.num_skewed,
        "answers_checked": check.num_answers - num_before,
        "skew_examples": check.examples,
        "swaps": num_swaps,
        "latency_ms": latency_ms,
        "sent_late_ms": {name: percentiles(one.late_ms) for name, one in phases.items()},
        "swap_ratio": round(swapping_p99 / quiet_p99, 2) if quiet_p99 and swapping_p99 else None,
        "request_rate": given.request_rate,
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.startswith("NEXTWATCH_"):
        raise argparse.ArgumentTypeError(f"takes NEXTWATCH_NAME=VALUE, got {text!r}")
    return name, value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.freshness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="changes nothing: it is always JSON")
    parser.add_argument("--only", action="append", choices=PARTS, help="may be given repeatedly")
    parser.add_argument("--data", type=Path, metavar="DIR", help="KuaiRand, in place of drawn ones")
    parser.add_argument("--videos", type=int, default=7_583, help="of drawn traffic")
    parser.add_argument("--rate", type=float, default=50.0, help="watches a second")
    parser.add_argument("--seconds", type=float, default=150.0, help="of watches at that rate")
    parser.add_argument("--warm-up", type=float, default=20.0, help="seconds before those")
    parser.add_argument("--burst-rate", type=float, default=500.0, help="watches a second")
    parser.add_argument("--burst-seconds", type=float, default=30.0, help="0 leaves that out")
    parser.add_argument("--request-rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--quiet-seconds", type=float, default=40.0, help="without swaps")
    parser.add_argument(
        "--answers", type=int, default=12_000, help="while swapping; the target is for 100,000"
    )
    parser.add_argument(
        "--set",
        action="append",
        type=_setting,
        default=[],
        metavar="NAME=VALUE",
        help="a setting of streams, trainer and index_sync, for comparison, in the first part",
    )
    given = parser.parse_args()
    given.only = given.only or list(PARTS)
    return given


if __name__ == "__main__":
    main()
