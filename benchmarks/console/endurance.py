"""Keep the console open in Chromium for an hour of the demo: viewer and operator.

The viewer watches the first card every few seconds. One JSON object as the last line:

* ``p50_ms``: the median time from event to recommendation in each minute, and ``worst_p50_ms``
  over the minutes after the first, in which the system starts;
* ``memory_mb``: resident memory of each process after so many minutes and at the end;
* ``page_heap_mb``, ``page_nodes``: scripts' heap and nodes of both pages, once a minute;
* ``growth``: by process and page, the memory at the end by that after warm-up, less 1: of pages a
  third of the run, of processes the newest mark of the demo (1, 10, 30 minutes) within it;
* ``clicks``, and ``answered``: how many of them changed the feed.

Exits with 1 where a minute's median is above ``--most-ms``, a memory has grown by more than 5 % and
8 MiB, or an event was lost.

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
        options = ("--console-port", str(port))
        demo = demo_process(Path(name), seconds=seconds, rate=given.rate, options=options)
        demo.start()
        try:
            pages = _visit(demo, port, seconds)
            shown = ended_figures(demo, within_s=_END_WITHIN_S)
        finally:
            demo.kill()
    figures = _figures(shown, pages, given.minutes)
    grown = [
        name
        for name, share in figures["growth"].items()
        if share > _MOST_GROWTH and figures["growth_mb"][name] > _MOST_GROWTH_MB
    ]
    is_fast = figures["worst_p50_ms"] <= given.most_ms
    is_right = is_fast and not grown and not shown["lost"] and not shown["lost_uploads"]
    exit_with(figures | {"grown": grown}, is_right=is_right)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.console.endurance",
        description=(__doc__ or "").splitlines()[0],
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--rate", type=float, default=50.0, help="events per second (50)")
    parser.add_argument(
        "--most-ms", type=float, default=15.0, help="a minute's median at most (15)"
    )
    parser.add_argument("--json", action="store_true", help="the last line is JSON; it always is")
    return parser.parse_args()


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


def _figures(shown: Mapping[str, Any], pages: Mapping[str, Any], minutes: float) -> dict[str, Any]:
    p50_ms = [minute["p50"] for minute in shown["minutes"]]
    warm_min = minutes / 3
    before_after = {
        name: (_at(marks, warm_min), marks["end"]) for name, marks in shown["memory_mb"].items()
    } | {
        f"page of the {name}": (course[int(len(course) / 3)], course[-1])
        for name, course in pages["page_heap_mb"].items()
    }
    return {
        "minutes": minutes,
        "worst_p50_ms": max(value for value in _after_first(p50_ms) if value is not None),
        "p50_ms": p50_ms,
        "p99_ms": [minute["p99"] for minute in shown["minutes"]],
        **{name: shown[name] for name in ("startup_s", "events_in", "answered", "lost")},
        **{name: shown[name] for name in ("lost_uploads", "generations_served", "restarts")},
        "event_to_recommendation_ms": shown["event_to_recommendation_ms"],
        "memory_mb": shown["memory_mb"],
        "cpu_percent": {name: share["run"] for name, share in shown["cpu_percent"].items()},
        "clicks": pages["clicks"],
        "clicks_answered": pages["answered"],
        "page_heap_mb": pages["page_heap_mb"],
        "page_nodes": pages["page_nodes"],
        "growth": {name: round(end / warm - 1, 3) for name, (warm, end) in before_after.items()},
        "growth_mb": {name: round(end - warm, 1) for name, (warm, end) in before_after.items()},
    }


def _at(marks: Mapping[str, float], minute: float) -> float:
    """Return the newest memory that was taken at most *minute* minutes after the start."""
    taken = [int(mark) for mark in marks if mark != "end" and int(mark) <= minute]
    return marks[str(max(taken))] if taken else marks["end"]


def _after_first(values: Sequence[float | None]) -> Sequence[float | None]:
    return values[1:] if len(values) > 1 else values


if __name__ == "__main__":
    main()
