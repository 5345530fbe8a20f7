"""Measure the console in Chromium, on an embedded stack with an audience.

One JSON object as the last line:

* ``click_to_feed_ms``: {p50, p99} from a click on Watch to the feed with the answer in the page;
* ``parts_ms``: the medians of its parts: Kafka to streams, state, tower, search, ranking, Kafka
  back, page;
* ``event_to_recommendation_ms``: {p50, p99} of all events meanwhile, by an independent consumer;
* ``page_ready_ms``: the median of the times from opening the address to the page that can be used;
* ``console_cpu_share``: the share of one core that a console of its own process takes, with the
  page of the viewer open and clicked, and ``idle_cpu_share`` with no page open;
* ``page_heap_mb``: the heap of the page's scripts, at the start and at the end.

Exits with 1 where p99 is above ``--most-ms``.

Example: python -m benchmarks.console --json
"""

import argparse
import os
import re
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.console.rig import ConsoleRig, running_rig
from benchmarks.json_report import exit_with, log_errors_only
from benchmarks.stack.browser import browser, missing
from benchmarks.stack.waiting import eventually
from nextwatch.demo.figures.latency import Latencies
from nextwatch.demo.figures.usage import cpu_s
from nextwatch.embedded.process.ports import free_ports

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NUM_OPENINGS = 5
_IDLE_S = 15.0
_PAUSE_MS = 150
_WITHIN_MS = 60_000
_READY_WITHIN_S = 60.0
_MEASURED = """() => performance.getEntriesByName("click_to_feed")
  .map((one) => [one.duration, ...one.detail])"""
_READY = """() => performance.getEntriesByName("page_ready")[0].startTime"""


def main() -> None:
    """Run the rig, click, and print the figures."""
    given = _options()
    log_errors_only()
    if reason := missing():
        exit_with({"error": reason}, is_right=False)
    with (
        running_rig(rate=given.rate) as rig,
        _own_console(rig) as (url, pid),
        browser() as chromium,
    ):
        figures = {"rate": given.rate, "clicks": given.clicks}
        figures |= {"idle_cpu_share": _share(pid, lambda: sleep(_IDLE_S))}
        figures |= {"page_ready_ms": round(statistics.median(_openings(chromium, url)), 1)}
        page = chromium.new_page()
        page.set_default_timeout(_WITHIN_MS)
        _become_viewer(page, url)
        heap_mb = [_heap_mb(page)]
        latencies = rig.observer.tally.ledger.latencies = Latencies()
        figures["console_cpu_share"] = _share(pid, lambda: _click(page, given.clicks))
        heap_mb.append(_heap_mb(page))
        times = page.evaluate(_MEASURED)
        figures["event_to_recommendation_ms"] = latencies.percentiles(50, 99)
    totals, *parts = np.array(times).T
    p50, p99 = np.percentile(totals, [50, 99])
    figures["parts_ms"] = [round(float(np.median(part)), 1) for part in parts]
    figures["click_to_feed_ms"] = {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}
    figures["answered"] = len(times)
    figures["page_heap_mb"] = heap_mb
    exit_with(figures, is_right=p99 <= given.most_ms and len(times) == given.clicks)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.console", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rate", type=float, default=50.0, help="events per second (50)")
    parser.add_argument("--clicks", type=int, default=200, help="how many watches (200)")
    parser.add_argument("--most-ms", type=float, default=250.0, help="p99 at most (250)")
    parser.add_argument("--json", action="store_true", help="the last line is JSON; it always is")
    return parser.parse_args()


@contextmanager
def _own_console(rig: ConsoleRig) -> Iterator[tuple[str, int]]:
    """Run ``nextwatch console``, and yield its address and its process id."""
    [port] = free_ports(1)
    env = {"NEXTWATCH_CONSOLE_PORT": str(port)}
    child = rig.stack.add_process("console", [sys.executable, "-m", "nextwatch", "console"], env)
    told = eventually(
        lambda: re.search(r"console at (\S+)", child.log_tail()), within_s=_READY_WITHIN_S
    )
    assert told, child.log_tail()
    try:
        yield told[1], child.pid
    finally:
        child.stop()


def _openings(chromium: "Browser", url: str) -> list[float]:
    """Return how long each opening took until the page could be used, without a cache."""
    times = []
    for _ in range(_NUM_OPENINGS):
        page = chromium.new_context().new_page()
        page.goto(url)
        page.wait_for_selector("html[data-ready]")
        times.append(page.evaluate(_READY))
        page.context.close()
    return times


def _become_viewer(page: "Page", url: str) -> None:
    page.goto(url)
    page.click("#new-user")
    page.wait_for_selector(".card")


def _click(page: "Page", count: int) -> None:
    """Watch the first card again and again, each time once the feed has followed."""
    for number in range(count):
        page.locator(".card .main").first.click()
        page.wait_for_function(
            """(count) => performance.getEntriesByName("click_to_feed").length > count""",
            arg=number,
        )
        page.wait_for_timeout(_PAUSE_MS)


def _share(pid: int, work: Any) -> float:
    """Return the share of a core that process *pid* takes while *work* runs."""
    before_s, began_s = cpu_s(pid) or 0.0, monotonic()
    work()
    return round(((cpu_s(pid) or 0.0) - before_s) / (monotonic() - began_s), 3)


def _heap_mb(page: "Page") -> float:
    """Return the heap of the scripts of *page*, after a collection of garbage."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return round(float(used) / 2**20, 1)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
