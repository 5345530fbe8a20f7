"""Compare Nextwatch with other frameworks on the same job: ``python -m benchmarks.peers``.

The job is in `benchmarks.peers.job`, the peers in `peer_faust` and `peer_quix`: same bundle, same
index, same windows to start with, same load. Progress goes to standard error; standard output
is a table, and one JSON object on the last line.

* ``answers_eps``   recommendations a second at saturation, in steady state, median
* ``latency_ms``    at ``common_rate_eps``, 70 % of what the slowest can; from when an event was
  meant to be sent. Nextwatch's at 70 % of its own rate besides
* ``worker_cpu_ms_per_event``  processor time of the workers alone, at saturation
* ``unanswered``, ``degraded``, ``wrong_windows``  must be 0: nobody wins by doing less
* ``load_1m``       the load average before anything started: above 0.5, others took part
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.peers import report
from benchmarks.peers.contest import Contest, hold
from benchmarks.peers.contestants import CONTESTANTS, NEXTWATCH, Contestant, Start
from benchmarks.peers.workers import write_seeds
from benchmarks.serving.audience import ServingAudience
from benchmarks.serving.catalogue import open_catalogue
from benchmarks.serving.rig import NUM_PARTITIONS
from contract.process.clock import system_clock
from models.history import codec as history_codec

PAGE = Path("docs/results/serving.md")
_WIDE = 180


def main() -> None:
    """Run the contest that the command line asks for, and print the table."""
    given = _arguments()
    facts = {"load_1m": round(os.getloadavg()[0], 2), "cpus": os.cpu_count()}
    facts |= {name: getattr(given, name) for name in ("videos", "users", "events")}
    facts |= {name: getattr(given, name) for name in ("workers", "repeats")}
    root = given.root.resolve()
    audience = ServingAudience(open_catalogue(root, given.videos), given.users, system_clock())
    seeds = {
        user_id: history_codec.encode(window)
        for user_id, window in audience.windows(range(given.users))
    }
    contest = Contest(
        *(root, audience, seeds),
        num_events=given.events,
        num_workers=given.workers,
        seconds=given.seconds,
        repeats=given.repeats,
        say=_say,
    )
    with tempfile.TemporaryDirectory(dir=root) as directory:
        place = Path(directory)
        write_seeds(place / "seeds", seeds.items(), num_partitions=NUM_PARTITIONS)
        starts = [_start(each, given, audience, place) for each in given.only]
        standings, common_eps = hold(contest, starts)
    lines = report.rows(standings, common_eps)
    Console(file=sys.stdout, width=_WIDE).print(report.table(lines))
    if given.report:
        report.write_section(PAGE, report.markdown(lines, facts))
    print(json.dumps(facts | report.summary(standings, common_eps)))


def _start(
    contestant: Contestant, given: argparse.Namespace, audience: ServingAudience, directory: Path
) -> Start:
    _say(f"writing everybody's window to the stores of {contestant.name}")
    if contestant is NEXTWATCH:
        state = directory / contestant.name
        audience.fill_stores(state, num_partitions=NUM_PARTITIONS, clock=system_clock)
        return Start(contestant, sys.executable, state)
    return Start.of(
        contestant,
        environments=given.environments,
        seeds=directory / "seeds",
        directory=directory,
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", type=Path, default=Path(".nextwatch/bench"), help="what is kept")
    parser.add_argument("--environments", type=Path, default=Path(".nextwatch/peers"))
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=20_000, help="all with 50 watches")
    parser.add_argument("--events", type=int, default=8_000, help="of a run at saturation")
    parser.add_argument("--workers", type=int, default=1, help="of each system")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a run at a given rate")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", type=_contestants, default=CONTESTANTS, help="such as faust,quix")
    parser.add_argument("--report", action="store_true", help=f"write the table to {PAGE}")
    parser.add_argument("--json", action="store_true", help="changes nothing: it is always JSON")
    return parser.parse_args()


def _contestants(text: str) -> list[Contestant]:
    by_name = {contestant.name: contestant for contestant in CONTESTANTS}
    if unknown := sorted(set(text.split(",")) - by_name.keys()):
        raise argparse.ArgumentTypeError(f"unknown: {unknown}; known: {', '.join(by_name)}")
    return [by_name[name] for name in dict.fromkeys(text.split(","))]


if __name__ == "__main__":
    main()
