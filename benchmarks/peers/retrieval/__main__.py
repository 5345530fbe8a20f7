"""Compare retrieval models of other libraries with ours: ``python -m benchmarks.peers.retrieval``.

All learn from the same split for the same processor time and are ranked by the same code
(`benchmarks.peers.retrieval.contest`). Progress goes to standard error; standard output is a table
in Markdown, and one JSON object on the last line. The exit code is 1 if somebody who could be
had did not finish.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.peers.retrieval import report
from benchmarks.peers.retrieval.contest import CONTESTANTS, RetrievalContest
from models.history.history import WindowPolicy
from nextwatch.evaluate.logs import ml1m
from nextwatch.evaluate.run import split as source_of

PAGE = Path("docs/results/retrieval_peers.md")


def main() -> int:
    """Run the contest that the command line asks for, and print the table."""
    given = _arguments()
    source, data = source_of(given.data)
    if source != "ml1m":
        raise SystemExit(f"only ml1m:DIR has a split that peers can learn from, got {given.data}")
    halves = ml1m.read(data, policy=WindowPolicy())
    facts = {
        "data": source,
        "minutes": given.minutes,
        "seed": given.seed,
        "n": len(halves.tests),
        "num_videos": len(halves.uploads),
        "load_1m": round(os.getloadavg()[0], 2),
        "cpus": os.cpu_count(),
    }
    with tempfile.TemporaryDirectory() as directory:
        contest = RetrievalContest(
            halves,
            data.resolve(),
            Path(directory),
            given.environments,
            minutes=given.minutes,
            seed=given.seed,
            say=_say,
        )
        chosen = tuple(one for one in CONTESTANTS if not given.only or one.name in given.only)
        outcomes = contest.hold(chosen)
    print(report.table(report.rows(outcomes)))
    if given.report:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(report.page(outcomes, facts), encoding="utf-8")
        _say(f"wrote {PAGE}")
    print(report.summary(outcomes, facts))
    return int(any(one.is_failed for one in outcomes))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.retrieval",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [one.name for one in CONTESTANTS]
    parser.add_argument("--data", required=True, metavar="ml1m:DIR")
    parser.add_argument("--minutes", type=float, default=10.0, help="of CPU, to learn, for each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=names, default=[], metavar="NAME")
    parser.add_argument("--environments", type=Path, default=Path(".nextwatch/peers"))
    parser.add_argument("--report", action="store_true", help=f"write {PAGE}")
    parser.add_argument("--json", action="store_true", help="changes nothing: it is always JSON")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
