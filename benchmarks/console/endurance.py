"""Keep the console open in Chromium for an hour of the demo: viewer and operator.

The viewer watches the first card every few seconds. One JSON object as the last line:

* ``p50_ms``: the median time from event to recommendation in each minute, and ``worst_p50_ms``
  over the minutes after the first, in which the system starts;
* ``memory_mb``: resident memory of each process after so many minutes and at the end;
* ``page_heap_mb``, ``page_nodes``: scripts' heap and nodes of both pages, once a minute;
* ``growth``: by process and page, the memory at the end by that after warm-up, less 1: of pages a
  third of the run, of processes the newest mark of the demo (1, 10, 30 minutes) within it. A run of
  less than three minutes has no such mark, and no growth of processes;
* ``clicks``, and ``clicks_answered``: how many of them changed the feed;
* ``restarts``, and ``gone``: the processes that did not run at the end.

Exits with 1 where a minute's median is above ``--most-ms``, a memory has grown by more than 5 % and
8 MiB, an event was lost, the demo failed, or a process was restarted or is gone: what it took
before is not compared.

The catalogue grows meanwhile, from 2,000 to 5,600 videos in an hour. ``--upload-rate 0`` tells what
grows without it.

Example: python -m benchmarks.console.endurance --minutes 60 --json
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from benchmarks.json_report import exit_with
from benchmarks.stack.browser import browser, missing
from benchmarks.stack.demo_process import demo_process, ended_figures
from benchmarks.stack.waiting import eventually
from nextwatch.embedded.process.ports import free_ports, is_listening
from nextwatch.embedded.process.process import Child

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession, Page

_START_WITHIN_S = 180.0
_END_WITHIN_S = 120.0
_WITHIN_MS = 60_000
_CLICK_EVERY_MS = 5_000
_CLOSE_BEFORE_END_S = 5.0
_MOST_MINUTES = 7 * 24 * 60
_MOST_GROWTH, _MOST_GROWTH_MB = 0.05, 8.0
_NUM_CLICKED = "() => performance.getEntriesByName('click_to_feed').length"


def main() -> None:
    """Run the demo with both pages open, and print the figures."""
    given = _options()
    if reason := missing():
        exit_with({"error": reason}, is_right=False)
    [port] = free_ports(1)
    seconds = 60 * given.minutes
    with tempfile.TemporaryDirectory(prefix="nextwatch-endurance-") as name:
        options = ("--console-port", str(port), *_uploads(given.upload_rate))
        demo = demo_process(Path(name), seconds=seconds, rate=given.rate, options=options)
        demo.start()
        try:
            pages = _visit(demo, port, seconds)
            shown = ended_figures(demo, within_s=_END_WITHIN_S)
        finally:
            demo.kill()
    figures = figures_of(shown, pages, given.minutes)
    exit_with(figures, is_right=is_right(figures, most_ms=given.most_ms))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.console.endurance",
        description=(__doc__ or "").splitlines()[0],
    )
    parser.add_argument("--minutes", type=minutes, default=60.0, help="how long, 1 or more (60)")
    parser.add_argument("--rate", type=float, default=50.0, help="events per second (50)")
    parser.add_argument(
        "--upload-rate", type=float, help="uploads per second (1); with 0 the catalogue stays"
    )
    parser.add_argument(
        "--most-ms", type=float, default=15.0, help="a minute's median at most (15)"
    )
    parser.add_argument("--json", action="store_true", help="the last line is JSON; it always is")
    return parser.parse_args()


def _uploads(per_s: float | None) -> tuple[str, ...]:
    return () if per_s is None else ("--upload-rate", f"{per_s:g}")


def minutes(given: str) -> float:
    """Return *given* as minutes of a run, in which the pages are read at least once.

    Raises:
        ValueError: it is not a number.
        argparse.ArgumentTypeError: it is not between one minute and a week.
    """
    number = float(given)
    if not 1 <= number <= _MOST_MINUTES:
        raise argparse.ArgumentTypeError(f"must be from 1 to {_MOST_MINUTES}, got {given}")
    return number


def _visit(demo: Child, port: int, seconds: float) -> dict[str, Any]:
    """Use the console until shortly before the end; return the course of its pages."""
    if not eventually(lambda: is_listening(port), within_s=_START_WITHIN_S):
        raise SystemExit(f"the console does not listen:\n{demo.log_tail()}")
    with browser() as chromium:
        viewer, operator = chromium.new_page(), chromium.new_page()
        for page in (viewer, operator):
            page.set_default_timeout(_WITHIN_MS)
        viewer.goto(f"http://127.0.0.1:{port}/", timeout=1000 * _START_WITHIN_S)
        began_s = monotonic()
        operator.goto(f"http://127.0.0.1:{port}/#operator")
        viewer.click("#new-user")
        viewer.wait_for_selector(".card")
        meters = {"viewer": _Meter(viewer), "operator": _Meter(operator)}
        clicks, minute = 0, 0
        while (passed_s := monotonic() - began_s) < seconds - _CLOSE_BEFORE_END_S:
            if passed_s >= 60 * minute:
                minute += 1
                for meter in meters.values():
                    meter.read()
            viewer.locator(".card .main").first.click()
            clicks += 1
            viewer.wait_for_timeout(_CLICK_EVERY_MS)
        return {
            "clicks": clicks,
            "answered": viewer.evaluate(_NUM_CLICKED),
            "page_heap_mb": {name: meter.heap_mb for name, meter in meters.items()},
            "page_nodes": {name: meter.nodes for name, meter in meters.items()},
        }


class _Meter:
    """Reads the memory of one page, after a collection of garbage."""

    def __init__(self, page: "Page") -> None:
        self._session: CDPSession = page.context.new_cdp_session(page)
        self.heap_mb: list[float] = []
        self.nodes: list[int] = []

    def read(self) -> None:
        """Note the present figures."""
        self._session.send("HeapProfiler.collectGarbage")
        used = self._session.send("Runtime.getHeapUsage")["usedSize"]
        self.heap_mb.append(round(float(used) / 2**20, 2))
        self.nodes.append(self._session.send("Memory.getDOMCounters")["nodes"])


def figures_of(
    shown: Mapping[str, Any], pages: Mapping[str, Any], num_minutes: float
) -> dict[str, Any]:
    """Return what is printed of a run, from the figures of its demo and the course of its pages."""
    p50_ms = [minute["p50"] for minute in shown["minutes"]]
    warm_min = num_minutes / 3
    before_after = {
        name: (warm, marks["end"])
        for name, marks in shown["memory_mb"].items()
        if "end" in marks and (warm := _at(marks, warm_min)) is not None
    } | {
        f"page of the {name}": (course[int(len(course) / 3)], course[-1])
        for name, course in pages["page_heap_mb"].items()
    }
    growth = {name: round(end / warm - 1, 3) for name, (warm, end) in before_after.items()}
    growth_mb = {name: round(end - warm, 1) for name, (warm, end) in before_after.items()}
    return {
        "minutes": num_minutes,
        "worst_p50_ms": max(_numbers(_after_first(p50_ms)), default=None),
        "p50_ms": p50_ms,
        "p99_ms": [minute["p99"] for minute in shown["minutes"]],
        **{name: shown[name] for name in ("startup_s", "events_in", "answered", "lost")},
        **{name: shown[name] for name in ("lost_uploads", "generations_served", "restarts")},
        **{name: shown[name] for name in ("interrupted", "error")},
        "event_to_recommendation_ms": shown["event_to_recommendation_ms"],
        "memory_mb": shown["memory_mb"],
        "gone": [name for name, marks in shown["memory_mb"].items() if "end" not in marks],
        "cpu_percent": {name: share["run"] for name, share in shown["cpu_percent"].items()},
        "clicks": pages["clicks"],
        "clicks_answered": pages["answered"],
        "page_heap_mb": pages["page_heap_mb"],
        "page_nodes": pages["page_nodes"],
        "growth": growth,
        "growth_mb": growth_mb,
        "grown": [
            name
            for name, share in growth.items()
            if share > _MOST_GROWTH and growth_mb[name] > _MOST_GROWTH_MB
        ],
    }


def is_right(figures: Mapping[str, Any], *, most_ms: float) -> bool:
    """Return whether a run with *figures* kept to the bounds."""
    worst_ms = figures["worst_p50_ms"]
    faults = ("grown", "gone", "restarts", "lost", "lost_uploads", "interrupted", "error")
    return worst_ms is not None and worst_ms <= most_ms and not any(map(figures.get, faults))


def _at(marks: Mapping[str, float], minute: float) -> float | None:
    """Return the newest memory that was taken at most *minute* minutes after the start."""
    taken = [int(mark) for mark in marks if mark != "end" and int(mark) <= minute]
    return marks[str(max(taken))] if taken else None


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _after_first(values: Sequence[float | None]) -> Sequence[float | None]:
    return values[1:] if len(values) > 1 else values


if __name__ == "__main__":
    main()
