"""Measure what metrics cost: a worker that records them and is scraped, beside one without.

Both run in turns, and in the other order every second time: a machine that is busy for a while, or
warms up, then slows both. What is compared are the pairs, since two runs that follow each other
differ less than two of different hours.
"""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic, thread_time
from typing import cast

import httpx

from benchmarks.serving.figures import USUAL_BATCH, Report, ServingBench, flaws, warm
from benchmarks.serving.rig import NUM_PARTITIONS
from contract.kafka.records import Received
from contract.metrics.definitions import MILLISECONDS
from contract.process.clock import system_clock
from contract.wire.events import Recommendation
from contract.wire.topics import WATCH_EVENTS
from contract.wire.words import DEFAULT_ARM
from models.history.history import WindowPolicy
from nextwatch.embedded.process.ports import LOOPBACK, free_ports
from streams.lifecycle.stage_timer import StageTimer
from streams.pipeline.batch import Batch, PartitionRecords
from streams.pipeline.batch_metrics import BatchMetrics
from streams.state.partition import Partition
from streams.state.store import WindowStore

SCRAPE_EVERY_S = 1.0
"""Fifteen times as often as ops/prometheus scrapes."""

STAGES = ("decode", "fold", "encode", "search", "rank", "produce", "settle")

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
    recording = recording_us()
    return {
        "metrics": {
            "eps_on": round(statistics.median(rates[True]), 1),
            "eps_off": round(statistics.median(rates[False]), 1),
            **_ratios("eps_ratio", rates),
            **_ratios("cpu_ratio", cpu_ms),
            "recording_us_per_event": round(recording, 2),
            "recording_share": round(recording / (1e3 * statistics.median(cpu_ms[False])), 5),
            "scrapes": len(scrape_ms),
            "scrape_ms_p50": round(statistics.median(scrape_ms or [0.0]), 1),
        }
    }


def recording_us(num_events: int = USUAL_BATCH, *, repeats: int = 2_000) -> float:
    """Return the CPU microseconds an event that recording takes, in batches of *num_events*.

    In a thread that does nothing else, so that a machine that is busy changes little.
    """
    batch = _batch(num_events)
    with_buckets = BatchMetrics(system_clock), StageTimer(thread_time, monotonic, MILLISECONDS)
    without = None, StageTimer(thread_time, monotonic)
    spent_s = {}
    for recorded, timer in (with_buckets, without):
        began_s = thread_time()
        for _ in range(repeats):
            for stage in STAGES:
                with timer(stage):
                    pass
            if recorded is not None:
                recorded.note(batch)
        spent_s[recorded is not None] = thread_time() - began_s
    return 1e6 * (spent_s[True] - spent_s[False]) / (repeats * num_events)


def _batch(num_events: int) -> Batch:
    """Return a batch of watches of all partitions that was answered."""
    now_ms = system_clock()
    record = Received(WATCH_EVENTS.name, partition=0, offset=1, key=b"u", value=b"{}")
    answer = Recommendation(
        recommendation_id="r",
        user_id="u",
        generated_at_ms=now_ms,
        caused_by=["e"],
        bundle_id="b",
        generation=1,
        arm=DEFAULT_ARM,
        items=[],
    )
    policy, no_store = WindowPolicy(), cast("WindowStore", None)  # recording looks into none
    return Batch(
        [record] * num_events,
        partitions=[
            PartitionRecords(
                Partition(number, no_store, policy), ingested_ms={WATCH_EVENTS.name: now_ms}
            )
            for number in range(NUM_PARTITIONS)
        ],
        asked_ms=[now_ms - 15] * num_events,
        recommendations=[answer] * num_events,
    )


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
