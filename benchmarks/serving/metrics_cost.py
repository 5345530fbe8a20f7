"""Measure what metrics cost: a worker that records them and is scraped, beside one without.

Both are workers of one group at the same time, and each answers the users of two of the four
partitions: whatever else the machine does, and however fast it is just then, slows both. They take
turns at being the one with metrics. What is compared is the CPU that an event takes, which is what
bounds the throughput of a worker.

Two workers of one program differ by tens of percent where others use the machine, in either
direction. So the cost is also put together from its parts, measured where nothing else runs in the
process: what recording takes, in one thread, and what a scrape takes, of an idle worker.
"""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic, sleep, thread_time
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
"""During a load, to see whether a scrape holds anything up."""

INTERVAL_S = 15
"""How often ops/prometheus scrapes; `cost_share` goes by it."""

_IDLE_S = 2.0
_NUM_SCRAPES = 200

STAGES = ("decode", "fold", "encode", "search", "rank", "produce", "settle")

_PORT = "NEXTWATCH_STREAMS_HTTP_PORT"


def metrics(bench: ServingBench) -> Report:
    """Measure the CPU of an event with metrics and without, and what recording alone takes."""
    cpu_ms: dict[bool, list[float]] = {True: [], False: []}
    scrape_ms: list[float] = []
    scrape_cpu_ms: list[float] = []
    for repeat in range(bench.repeats):
        [port] = free_ports(1)
        ports = (0, port) if repeat % 2 else (port, 0)
        found = _side_by_side(bench, ports, scrape_ms, scrape_cpu_ms)
        for its_port, spent_ms in zip(ports, found, strict=True):
            cpu_ms[its_port > 0].append(spent_ms)
        bench.say(f"metrics: CPU ms an event on {cpu_ms[True][-1]:.3f} off {cpu_ms[False][-1]:.3f}")
    ratios = [on / off for on, off in zip(cpu_ms[True], cpu_ms[False], strict=True)]
    off_ms, recording = statistics.median(cpu_ms[False]), recording_us()
    one_scrape_ms = statistics.median(scrape_cpu_ms)
    return {
        "metrics": {
            "cpu_ms_on": round(statistics.median(cpu_ms[True]), 3),
            "cpu_ms_off": round(off_ms, 3),
            "cpu_ratio": round(statistics.geometric_mean(ratios), 3),
            "cpu_ratios": [round(ratio, 3) for ratio in ratios],
            "recording_us_per_event": round(recording, 2),
            "scrape_cpu_ms": round(one_scrape_ms, 2),
            "scrape_ms_p50": round(statistics.median(scrape_ms), 1),
            "cost_share": round(recording / (1e3 * off_ms) + one_scrape_ms / 1e3 / INTERVAL_S, 5),
        }
    }


def _side_by_side(
    bench: ServingBench,
    ports: tuple[int, int],
    scrape_ms: list[float],
    scrape_cpu_ms: list[float],
) -> list[float]:
    """Return the CPU milliseconds of an event of two workers that serve on *ports*, 0 for none."""
    port = max(ports)
    first, second = ({_PORT: str(port)} for port in ports)
    with bench.rig(env=first) as rig:
        rig.workers.append(more_worker(rig, 2, bench.windows, {**bench.settings, **second}))
        wait_serving(rig, 2)
        before_s = [_cpu_s(worker) for worker in rig.workers]
        warm(rig)
        with scraped(port) as took_ms:
            drive = rig.drive(bench.everything)
        spent_s = [
            _cpu_s(worker) - before for worker, before in zip(rig.workers, before_s, strict=True)
        ]
        bench.say(f"metrics: {drive.measured.rates()[0]:.0f} answers/s of both {flaws(drive)}")
        scrape_ms += took_ms
        scrape_cpu_ms.append(_cpu_of_a_scrape(rig.workers[ports.index(port)], port))
        rig.stages()
        events = [facts(worker.log_path, "stages_measured")[-1]["events"] for worker in rig.workers]
    return [1e3 * spent / count for spent, count in zip(spent_s, events, strict=True)]


def _cpu_of_a_scrape(worker: Child, port: int) -> float:
    """Return the CPU milliseconds that a scrape takes *worker*, which has nothing else to do."""
    began_s, before_s = monotonic(), _cpu_s(worker)
    sleep(_IDLE_S)
    idle = (_cpu_s(worker) - before_s) / (monotonic() - began_s)
    began_s, before_s = monotonic(), _cpu_s(worker)
    for _ in range(_NUM_SCRAPES):
        scrape(port)
    spent_s = _cpu_s(worker) - before_s - idle * (monotonic() - began_s)
    return 1e3 * max(0.0, spent_s) / _NUM_SCRAPES


def scrape(port: int) -> None:
    """Read the page of metrics at *port*."""
    with urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=10) as answer:
        answer.read()


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

    def repeat() -> None:
        while not is_over.wait(SCRAPE_EVERY_S):
            began_s = monotonic()
            scrape(port)
            took_ms.append(1e3 * (monotonic() - began_s))

    thread = Thread(target=repeat, name="scrapes")
    thread.start()
    try:
        yield took_ms
    finally:
        is_over.set()
        thread.join()
