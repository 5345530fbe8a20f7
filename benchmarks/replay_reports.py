"""Replay past reports on a running stack: ``python -m benchmarks.replay_reports``.

One scenario a row, on Apache Kafka and the embedded index, judged by what a user sees. The last
line is one JSON object; the exit code is 1 if a row is not right. Rows: `benchmarks.reports.table`.
"""

import argparse
import os
import sys
from collections.abc import Collection, Sequence
from time import monotonic

from benchmarks.json_report import exit_with, log_errors_only
from benchmarks.reports.row import Row
from benchmarks.reports.stage import Seen, stage_on
from benchmarks.reports.table import NUMBERS, SECTIONS
from nextwatch.embedded.stack import EmbeddedStack


def main() -> None:
    """Replay what the command line asks for, and print the figures."""
    given = _arguments()
    log_errors_only()
    rows: dict[str, Seen] = {}
    for section, all_rows in SECTIONS.items():
        wanted = [row for row in all_rows if row.number in given.only]
        if wanted:
            rows |= replay_section(section, wanted)
    exit_with(figures(rows), is_right=all(seen.is_right for seen in rows.values()))


def replay_section(section: str, rows: Sequence[Row]) -> dict[str, Seen]:
    """Replay *rows* on one stack, one after the other; return what was seen, by number."""
    seen: dict[str, Seen] = {}
    with EmbeddedStack(os.environ, processes=("broker", "index"), is_supervised=False) as stack:
        for row in rows:
            begun_s = monotonic()
            seen[row.number] = replay_row(stack, row)
            _tell(row, seen[row.number], monotonic() - begun_s)
        if not all(each.is_right for each in seen.values()):
            stack.stop(is_kept=True)
            print(f"  logs of section {section}: {stack.directory}", file=sys.stderr, flush=True)
    return seen


def replay_row(stack: EmbeddedStack, row: Row) -> Seen:
    """Replay one row on *stack* under its own prefix; an error counts as not right."""
    prefix = f"r{row.number.replace('.', '-')}-"
    try:
        with stage_on(stack, prefix) as stage:
            return row.replay(stage)
    except Exception as error:  # noqa: BLE001 - the next row is to be replayed all the same
        return Seen(is_right=False, text=f"{type(error).__name__}: {error}"[:500])


def figures(rows: dict[str, Seen]) -> dict[str, object]:
    """Return what is printed: how many rows there are, how many are right, and each of them."""
    return {
        "total": len(rows),
        "right": sum(seen.is_right for seen in rows.values()),
        "rows": {
            number: {"right": seen.is_right, "seen": seen.text} for number, seen in rows.items()
        },
    }


def _tell(row: Row, seen: Seen, took_s: float) -> None:
    verdict = "right" if seen.is_right else "WRONG"
    line = f"{row.number:<5} {verdict}  {row.title}: {seen.text}  ({took_s:.0f} s)"
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replay_reports",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=NUMBERS,
        choices=_choices(NUMBERS),
        metavar="ROW",
        help=f"these rows, or sections: {', '.join(_choices(NUMBERS))}",
    )
    parser.add_argument("--json", action="store_true", help="changes nothing: it ends in JSON")
    given = parser.parse_args()
    given.only = {number for number in NUMBERS if {number, number.split(".")[0]} & {*given.only}}
    return given


def _choices(numbers: Collection[str]) -> list[str]:
    return [*SECTIONS, *numbers]


if __name__ == "__main__":
    main()
