"""Measure what metrics cost: a worker that records them and is scraped, beside one without.

Both run in turns, and in the other order every second time: a machine that is busy for a while, or
warms up, then slows both. What is compared are the pairs, since two runs that follow each other
differ less than two of different hours.
"""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import httpx

from benchmarks.serving.figures import Report, ServingBench, flaws, warm
from nextwatch.embedded.process.ports import LOOPBACK, free_ports

SCRAPE_EVERY_S = 1.0
"""Fifteen times as often as ops/prometheus scrapes."""

_PORT = "NEXTWATCH_STREAMS_HTTP_PORT"


def metrics(bench: ServingBench) -> Report:
    """Measure answers a second and the worker's CPU, with metrics and without."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    cpu_ms: dict[bool, list[float]] = {True: [], False: []}
    scrape_ms: list[float] = []
    for repeat in range(bench.repeats):
        for is_on in (True, False) if repeat % 2 else (False, True):
            port = free_ports(1)[0] if is_on else 0
            with bench.rig(env={_PORT: str(port)}) as rig:
                warm(rig)
                with scraped(port) as took_ms:
                    drive = rig.drive(bench.everything)
            scrape_ms += took_ms
            rates[is_on].append(drive.measured.rates()[0])
            cpu_ms[is_on].append(drive.cpu_ms_per_event()["worker"])
            bench.say(
                f"metrics {'on' if is_on else 'off'}: {rates[is_on][-1]:.0f} answers/s, "
                f"{cpu_ms[is_on][-1]:.3f} ms of CPU an event {flaws(drive)}"
            )
    return {
        "metrics": {
            "eps_on": round(statistics.median(rates[True]), 1),
            "eps_off": round(statistics.median(rates[False]), 1),
            **_ratios("eps_ratio", rates),
            **_ratios("cpu_ratio", cpu_ms),
            "scrapes": len(scrape_ms),
            "scrape_ms_p50": round(statistics.median(scrape_ms or [0.0]), 1),
        }
    }


def _ratios(name: str, found: dict[bool, list[float]]) -> Report:
    """Return the median of the pairs' ratios, with metrics by without, and all of them."""
    ratios = [on / off for on, off in zip(found[True], found[False], strict=True)]
    return {
        name: round(statistics.median(ratios), 3),
        f"{name}s": [round(ratio, 3) for ratio in ratios],
    }


@contextmanager
def scraped(port: int) -> Iterator[list[float]]:
    """Scrape *port* every second during the block; yield the milliseconds of each scrape."""
    took_ms: list[float] = []
    if not port:
        yield took_ms
        return
    is_over = Event()

    def scrape() -> None:
        while not is_over.wait(SCRAPE_EVERY_S):
            answer = httpx.get(f"http://{LOOPBACK}:{port}/metrics", timeout=10)
            answer.raise_for_status()
            took_ms.append(answer.elapsed.total_seconds() * 1_000)

    thread = Thread(target=scrape, name="scrapes")
    thread.start()
    try:
        yield took_ms
    finally:
        is_over.set()
        thread.join()
