"""Break a real stack again and again, and count what is lost: ``python -m benchmarks.faults``.

Two streams workers, a broker behind a proxy or three of them, an index with a bundle, and a flow of
events with repeats and reordering, under a seeded schedule of faults. The last line is one JSON
object; the exit code is 1 if a promise broke. With ``--broken NAME`` (or ``all``) the same runs on
builds that are wrong on purpose, and the exit code is 1 if one of them was not found out.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import islice
from time import monotonic
from typing import Any

from benchmarks.faults.broken import BREAKS
from benchmarks.faults.cluster_faults import CLUSTER_FAULTS
from benchmarks.faults.rounds import RECOVERED_WITHIN_S, play, schedule
from benchmarks.faults.table import FAULTS
from benchmarks.faults.verdict import RunRecord, summary
from benchmarks.json_report import exit_with, log_errors_only
from nextwatch.embedded.broker import default_engine

ROUNDS_OF_A_STACK = 8
EVERY_CLUSTER = 4
RATE = 120.0
FAULTS_REVEALING = {
    "commit_early": ("kill", "kill_and_wipe"),
    "no_rewind": ("isolate_and_wipe",),
    "replace": ("isolate",),
}
"""Which faults find out which break; the others may pass it by."""

SHORT_REWIND = {"NEXTWATCH_STREAMS_REWIND_RECORDS": "0"}
"""Merging is needed where no rewind reaches: a longer one would mend what `replace` breaks.
The right build holds with this, too (``--only isolate --env NEXTWATCH_STREAMS_REWIND_RECORDS=0``).
"""

BROKEN_WITHIN_S = 25.0


def main() -> None:
    """Run what the command line asks for."""
    given = _arguments()
    log_errors_only()
    if given.broken is None:
        figures = run(given.rounds, given, (), tuple(given.only or FAULTS))
        exit_with(figures, is_right=figures["is_kept"])
    found = {}
    for name in BREAKS if given.broken == "all" else (given.broken,):
        given.tell(f"broken build: {name}")
        figures = run(given.rounds, given, (name,), tuple(given.only or FAULTS_REVEALING[name]))
        found[name] = {key: figures[key] for key in _TELLING} | {
            "found_out": not figures["is_kept"]
        }
    exit_with({"broken": found}, is_right=all(figures["found_out"] for figures in found.values()))


_TELLING = (
    *("rounds", "events", "lost", "unanswered", "state_equal", "users_differing"),
    *("stale_overwrites", "trouble"),
)


def run(
    num_rounds: int, given: argparse.Namespace, breaks: tuple[str, ...], kinds: tuple[str, ...]
) -> dict[str, Any]:
    """Play *num_rounds* on as many stacks as it takes; return the figures."""
    started_s = monotonic()
    records: list[RunRecord] = []
    for number, chunk in enumerate(_chunks(num_rounds, given, kinds)):
        view = ("compacted",) if _is_compacted(given, number) else ()
        given.tell(f"stack {number + 1} {' '.join((*breaks, *view))}")
        record = play(
            chunk,
            given.seed * 1_000 + number,
            rate=given.rate,
            breaks=(*breaks, *view),
            env=_env(given) | (SHORT_REWIND if "replace" in breaks else {}),
            within_s=BROKEN_WITHIN_S if breaks else RECOVERED_WITHIN_S,
            tell=given.tell,
        )
        records.append(record)
        given.tell(
            f"  lost {record.lost}, state equal: {record.state_equal}, {record.trouble or 'well'}"
        )
    figures: dict[str, Any] = {"broker": default_engine(os.environ).name, **summary(records)}
    figures["is_kept"] = all(record.is_kept for record in records)
    figures["seconds"] = round(monotonic() - started_s)
    return figures


def _chunks(
    num_rounds: int, given: argparse.Namespace, kinds: tuple[str, ...]
) -> Iterator[list[str]]:
    """Yield the faults of each stack; every fourth one has three brokers, if *kinds* need them."""
    of_cluster = [kind for kind in kinds if kind in CLUSTER_FAULTS]
    of_one = [kind for kind in kinds if kind not in CLUSTER_FAULTS]
    schedules = {
        True: schedule(given.seed, of_cluster),
        False: schedule(given.seed, of_one),
    }
    number = num_played = 0
    while num_played < num_rounds:
        has_cluster = bool(of_cluster) and (
            not of_one or number % EVERY_CLUSTER == EVERY_CLUSTER - 1
        )
        most = min(given.rounds_of_a_stack, num_rounds - num_played)
        yield list(islice(schedules[has_cluster], most))
        number += 1
        num_played += most


def _is_compacted(given: argparse.Namespace, number: int) -> bool:
    return given.changelog == "compacted" or (given.changelog == "both" and number % 2 == 0)


def _env(given: argparse.Namespace) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in given.env)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=RATE, help="events a second")
    parser.add_argument("--rounds-of-a-stack", type=int, default=ROUNDS_OF_A_STACK)
    parser.add_argument("--only", nargs="+", choices=tuple(FAULTS), help="these faults only")
    parser.add_argument("--broken", choices=(*BREAKS, "all"), help="run builds that must fail")
    parser.add_argument(
        "--changelog",
        choices=("both", "kept", "compacted"),
        default="both",
        help="how workers see the changelog: whole, as if compacted, or by turns",
    )
    parser.add_argument(
        "--env", nargs="*", default=[], metavar="NAME=VALUE", help="for all workers"
    )
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON object")
    given = parser.parse_args()
    given.tell = (lambda _line: None) if given.json else _tell
    return given


if __name__ == "__main__":
    main()
