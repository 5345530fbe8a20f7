"""Measure what metrics cost: a worker that records them and is scraped, beside one without.

Both are workers of one group at the same time, and each answers the users of two of the four
partitions: whatever else the machine does, and however fast it is just then, slows both. They take
turns at being the one with metrics. What is compared is the CPU that an event takes, which is what
bounds the throughput of a worker.
"""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic, thread_time
from typing import cast
from urllib.request import urlopen

import psutil

from benchmarks.serving.figures import USUAL_BATCH, Report, ServingBench, flaws, warm
from benchmarks.serving.rig import NUM_PARTITIONS, facts, more_worker, wait_serving
from contract.kafka.records import Received
from contract.metrics.definitions import MILLISECONDS
from contract.process.clock import system_clock
from contract.wire.events import Recommendation
from contract.wire.topics import WATCH_EVENTS
from contract.wire.words import DEFAULT_ARM
from models.history.history import WindowPolicy
from nextwatch.embedded.process.ports import LOOPBACK, free_ports
from nextwatch.embedded.process.process import Child
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
    """Measure the CPU of an event with metrics and without, and what recording alone takes."""
    cpu_ms: dict[bool, list[float]] = {True: [], False: []}
    scrape_ms: list[float] = []
    for repeat in range(bench.repeats):
        [port] = free_ports(1)
        ports = (0, port) if repeat % 2 else (port, 0)
        found = _side_by_side(bench, ports, port, scrape_ms)
        for its_port, spent_ms in zip(ports, found, strict=True):
            cpu_ms[its_port > 0].append(spent_ms)
        bench.say(f"metrics: CPU ms an event on {cpu_ms[True][-1]:.3f} off {cpu_ms[False][-1]:.3f}")
    ratios = [on / off for on, off in zip(cpu_ms[True], cpu_ms[False], strict=True)]
    off_ms, recording = statistics.median(cpu_ms[False]), recording_us()
    return {
        "metrics": {
            "cpu_ms_on": round(statistics.median(cpu_ms[True]), 3),
            "cpu_ms_off": round(off_ms, 3),
            "throughput_ratio": round(1 / statistics.median(ratios), 3),
            "cpu_ratios": [round(ratio, 3) for ratio in ratios],
            "recording_us_per_event": round(recording, 2),
            "recording_share": round(recording / (1e3 * off_ms), 5),
            "scrapes": len(scrape_ms),
            "scrape_ms_p50": round(statistics.median(scrape_ms or [0.0]), 1),
        }
    }


def _side_by_side(
    bench: ServingBench, ports: tuple[int, int], scraped_port: int, scrape_ms: list[float]
) -> list[float]:
    """Return the CPU milliseconds of an event of two workers that serve on *ports*, 0 for none."""
    first, second = ({_PORT: str(port)} for port in ports)
    with bench.rig(env=first) as rig:
        rig.workers.append(more_worker(rig, 2, bench.windows, {**bench.settings, **second}))
        wait_serving(rig, 2)
        before_s = [_cpu_s(worker) for worker in rig.workers]
        warm(rig)
        with scraped(scraped_port) as took_ms:
            drive = rig.drive(bench.everything)
        spent_s = [
            _cpu_s(worker) - before for worker, before in zip(rig.workers, before_s, strict=True)
        ]
        bench.say(f"metrics: {drive.measured.rates()[0]:.0f} answers/s of both {flaws(drive)}")
        scrape_ms += took_ms
        rig.stages()
        events = [facts(worker.log_path, "stages_measured")[-1]["events"] for worker in rig.workers]
    return [1e3 * spent / count for spent, count in zip(spent_s, events, strict=True)]


def _cpu_s(worker: Child) -> float:
    times = psutil.Process(worker.pid).cpu_times()
    return float(times.user + times.system)


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


@contextmanager
def scraped(port: int) -> Iterator[list[float]]:
    """Scrape *port* every second during the block; yield the milliseconds of each scrape."""
    took_ms: list[float] = []
    is_over = Event()

    def scrape() -> None:
        while not is_over.wait(SCRAPE_EVERY_S):
            began_s = monotonic()
            with urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=10) as answer:
                answer.read()
            took_ms.append(1e3 * (monotonic() - began_s))

    thread = Thread(target=scrape, name="scrapes")
    thread.start()
    try:
        yield took_ms
    finally:
        is_over.set()
        thread.join()
