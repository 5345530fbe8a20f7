"""Run one streams worker: ``python -m streams``. The composition root of the process.

Settings come from the environment: NEXTWATCH_KAFKA_*, NEXTWATCH_QDRANT_*, NEXTWATCH_STREAMS_*,
NEXTWATCH_WINDOW_* and NEXTWATCH_PROCESS_*. Start as many workers as the topics have partitions;
each needs a NEXTWATCH_STREAMS_STATE_DIR of its own, or one that they share
(NEXTWATCH_STREAMS_STATE_DIR_SHARED).
"""

import gc
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO

import structlog
import uvloop
from confluent_kafka import Producer
from threadpoolctl import threadpool_limits

from contract.cluster import preflight
from contract.cluster.watch import ClusterWatch
from contract.kafka.client import producer_config
from contract.kafka.outbox import Outbox
from contract.process import readiness
from contract.process.clock import system_clock
from contract.process.entrypoint import end_now, run_process
from contract.process.exit_codes import ExitCode
from contract.process.rocksdb import RocksMemory
from contract.process.settings import (
    KafkaSettings,
    ProcessSettings,
    QdrantSettings,
    Settings,
    load,
    variables,
)
from contract.process.tracing import Tracer, tracing
from contract.status.status_server import StatusServer
from models.bundle import bundle_store
from models.history.history import WindowPolicy
from models.history.settings import WindowSettings
from streams import liveness, tail
from streams.faust import app as faust_app
from streams.faust.group import limit_log
from streams.faust.membership import GroupMembership
from streams.faust.worker import run_worker
from streams.follower.catch_up import CatchUp
from streams.follower.offline_lists import OfflineLists
from streams.lifecycle.metrics import WorkerMetrics
from streams.lifecycle.pause_guard import PauseGuard
from streams.lifecycle.quotas import Quotas
from streams.pipeline.decode import BatchDecoder
from streams.pipeline.feature_log import FeatureLog
from streams.pipeline.pipeline import Pipeline
from streams.serving import generation as serving_module
from streams.serving.candidates import CandidateSource
from streams.serving.index import connected
from streams.serving.recommend import Recommender
from streams.serving.search_matches import SearchMatcher
from streams.serving.text_index import TextIndex
from streams.serving.trending import Trending
from streams.settings import StreamsSettings
from streams.state.changelog import Changelog, LoggedWindow
from streams.state.partition_count import (
    PlacedReader,
    check_count,
    check_windows,
    remember_count,
)
from streams.state.partitions import Partitions
from streams.state.standby import Standby
from streams.state.store import RocksStore, open_store

log = structlog.get_logger()

GROUPS: tuple[type[Settings], ...] = (
    *(KafkaSettings, QdrantSettings, ProcessSettings),
    *(WindowSettings, StreamsSettings),
)
GC_THRESHOLDS = 20_000, 50, 100
"""A batch makes thousands of objects and no cycles; with Python's 700 the collector takes a third
of the time of encoding (measured)."""

SWITCH_S = 0.001
"""How long one thread may keep others from Python. The follower computes for tens of milliseconds
when it loads a bundle, and a batch changes threads at every stage; each may wait Python's 5 ms."""

MAX_IDLE_MS = 3 * 86_400_000
"""A store left alone for longer is rebuilt: half of the changelog's delete retention."""


STANDBY_EVERY_S = 2.0
"""How far a warm copy may lag; each refresh is one fetch for each partition."""


def main() -> None:
    """Run the worker until SIGTERM or SIGINT, or until an error ends it."""
    run_process("streams", run, description=__doc__, settings=GROUPS)


def run(environ: Mapping[str, str]) -> None:
    """Build everything from *environ* and run the Faust worker."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end_before_it_runs)
    kafka = load(KafkaSettings, environ)
    qdrant = load(QdrantSettings, environ)
    process = load(ProcessSettings, environ)
    settings = load(StreamsSettings, environ)
    policy = load(WindowSettings, environ).policy
    state_dir, held = _checked_machine(settings, process)
    settings = settings.model_copy(update={"state_dir": state_dir})
    with held, _status_server(settings) as server, tracing("streams", process) as tracer:
        cluster = preflight.check_cluster(kafka, "streams", needs_leaders=False)
        check_count(settings.state_dir, kafka.user_partitions)
        limit_log()
        uvloop.install()
        gc.set_threshold(*GC_THRESHOLDS)
        sys.setswitchinterval(SWITCH_S)
        threadpool_limits(1, user_api="blas")  # the stages share the processors already
        _serve(kafka, qdrant, process, settings, policy, cluster, server, tracer)


def _end_before_it_runs(_number: int, _frame: object) -> None:
    """End in order on a signal that comes before Faust listens for it; nothing was begun."""
    sys.exit(ExitCode.STOPPED)


def _status_server(settings: StreamsSettings) -> StatusServer:
    variable = variables(StreamsSettings)["http_port"]
    return StatusServer(
        "streams", host=settings.http_host, port=settings.http_port, variable=variable
    )


def _serve(
    kafka: KafkaSettings,
    qdrant: QdrantSettings,
    process: ProcessSettings,
    settings: StreamsSettings,
    policy: WindowPolicy,
    cluster: preflight.Preflight,
    server: StatusServer,
    tracer: Tracer | None,
) -> None:
    switch = serving_module.ActiveGeneration()
    memory = RocksMemory.of(settings.cache_mb)
    reader = _reader(kafka)
    partitions = _partitions(kafka, settings, policy, memory, reader)
    fence = PauseGuard(time.monotonic, limit_s=kafka.session_timeout_ms / 2_000)
    is_asked = settings.recommend and settings.search == "index"
    index = connected(qdrant, patience_ms=settings.index_patience_ms, is_asked=is_asked)
    retrieval = CandidateSource(
        index,
        num_ranked=settings.num_candidates,
        num_trending=settings.num_trending,
        monotonic=time.monotonic,
        is_in_memory=settings.search == "memory",
        offline=(offline := _offline_lists(settings)),
    )
    taken_down: set[str] = set()
    texts = TextIndex() if settings.search_share else None
    decoder = BatchDecoder(partitions, layout=kafka.layout, clock=system_clock, tracer=tracer)
    metrics = WorkerMetrics(system_clock, time.monotonic, time.thread_time, is_on=server.is_on)
    quotas = Quotas(time.monotonic)
    pipeline = Pipeline(
        decoder,
        partitions,
        _recommender(settings, switch, retrieval, Trending(taken_down), texts),
        Outbox(Producer(producer_config(kafka) | {"throttle_cb": quotas.note})),
        fence,
        layout=kafka.layout,
        policy=policy,
        timer=metrics.stages,
        on_done=metrics.note_batch,
    )
    stop = threading.Event()
    ready = readiness.ReadyFile(process.ready_file)
    is_assigned = threading.Event()

    def declare_ready() -> None:
        if is_assigned.is_set() and (catch_up.is_over or not settings.recommend):
            ready.declare()

    def note_assigned() -> None:
        remember_count(settings.state_dir, kafka.user_partitions)
        is_assigned.set()
        declare_ready()

    catch_up = CatchUp(on_end=declare_ready)
    tail.start(
        kafka,
        lambda: tail.new_follower(
            *(kafka, process.bundle_url, qdrant.prefix(kafka), switch, taken_down),
            texts=texts,
            offline=offline,
            metrics=metrics.follower,
        ),
        catch_up,
        stop,
    )
    watch = ClusterWatch(cluster.look, on_end=end_now, on_change=ready.note)

    def note_refusal() -> None:
        cluster.doubt_group()
        watch.look_soon()

    app = faust_app.build(
        kafka,
        settings,
        partitions=partitions,
        pipeline=pipeline,
        fence=fence,
        group_membership=GroupMembership(
            kafka,
            settings.instance_id,
            monotonic=time.monotonic,
            on_refusal=note_refusal,
            on_failure=end_now,
        ),
        on_assigned=note_assigned,
        on_failure=end_now,
    )
    app.quotas = quotas
    watch.start()
    if settings.standby_replicas:
        app.standby = _standby(kafka, settings, policy, memory, stop)
    watchdog, end_watch = liveness.start(
        app,
        kafka,
        settings,
        num_moved=lambda: reader.num_read + pipeline.counts["windows_published_anew"],
        on_stall=partial(liveness.end_stalled, app),
        on_look=partial(liveness.note_lag, app, metrics.lag, metrics.batches.done_ms),
    )
    server.show(
        alive=partial(liveness.concern, app, watchdog, fence),
        conditions=liveness.conditions(
            app,
            settings,
            cluster=watch,
            switch=switch,
            catch_up=catch_up,
            retrieval=retrieval,
            index=index,
        ),
        metrics=partial(metrics.samples, decoder, pipeline, switch, retrieval, partitions),
    )
    try:
        run_worker(app)
    finally:
        stop.set()
        watch.stop()
        if app.standby is not None:
            app.standby.close()
        partitions.close()
        end_watch.set()
        log.info("stages_measured", **metrics.stages.totals())
        log.info(
            "streams_stopped", mended=dict(decoder.mended), **decoder.counts, **pipeline.counts
        )


def _recommender(
    settings: StreamsSettings,
    switch: serving_module.ActiveGeneration,
    retrieval: CandidateSource,
    trending: Trending,
    texts: TextIndex | None,
) -> Recommender | None:
    if not settings.recommend:
        return None
    num_recommended = settings.num_recommended
    asked = None
    if texts is not None:
        asked = SearchMatcher(texts, share=settings.search_share, num_recommended=num_recommended)
    return Recommender(
        switch,
        retrieval,
        trending,
        num_recommended=num_recommended,
        is_coalescing=settings.coalesce,
        clock=system_clock,
        asked=asked,
        skip_weight=settings.skip_weight,
        feature_log=FeatureLog(settings.ranking_log_share),
    )


def _checked_machine(settings: StreamsSettings, process: ProcessSettings) -> tuple[Path, IO[bytes]]:
    """Return this process's state directory, and what holds it until it is closed."""
    preflight.check_directory(settings.state_dir, "NEXTWATCH_STREAMS_STATE_DIR")
    preflight.check_ready_file(process.ready_file)
    bundle_store.check_url(process.bundle_url)
    if settings.state_dir_shared:
        state_dir, held = preflight.hold_own_directory(settings.state_dir)
    else:
        state_dir = settings.state_dir
        held = preflight.hold_directory(state_dir, "NEXTWATCH_STREAMS_STATE_DIR")
    readiness.withdraw(process.ready_file)
    return state_dir, held


def _reader(kafka: KafkaSettings, *, is_wanted: threading.Event | None = None) -> PlacedReader:
    """Return what reads the changelog; with *is_wanted*, for copies, and until it is set."""
    should_stop = is_wanted.is_set if is_wanted is not None else lambda: False
    changelog = Changelog(kafka, group_id=kafka.layout.streams_group)

    def read(start: Mapping[int, int]) -> Iterator[LoggedWindow]:
        return changelog.read(start, should_stop=should_stop)

    return PlacedReader(read, kafka.user_partitions, is_judging=is_wanted is None)


def _partitions(
    kafka: KafkaSettings,
    settings: StreamsSettings,
    policy: WindowPolicy,
    memory: RocksMemory,
    reader: PlacedReader,
) -> Partitions:
    def opened(number: int) -> RocksStore:
        directory = settings.state_dir / str(number)
        return open_store(directory, memory, clock=system_clock, max_idle_ms=MAX_IDLE_MS)

    return Partitions(
        opened,
        reader,
        policy,
        rewind_records=settings.rewind_records,
        check_windows=check_windows(kafka.user_partitions, settings.state_dir),
    )


def _standby(
    kafka: KafkaSettings,
    settings: StreamsSettings,
    policy: WindowPolicy,
    memory: RocksMemory,
    stop: threading.Event,
) -> Standby:
    is_wanted = threading.Event()
    copies = _partitions(kafka, settings, policy, memory, _reader(kafka, is_wanted=is_wanted))
    standby = Standby(copies, is_wanted)

    def run() -> None:
        try:
            standby.run(stop, every_s=STANDBY_EVERY_S)
        except BaseException as error:  # noqa: BLE001 - the thread's outermost frame
            end_now(error)

    threading.Thread(target=run, name="standby", daemon=True).start()
    return standby


def _offline_lists(settings: StreamsSettings) -> OfflineLists | None:
    if not (settings.num_similar or settings.num_hottest):
        return None
    return OfflineLists(num_similar=settings.num_similar, num_hottest=settings.num_hottest)


if __name__ == "__main__":
    main()
