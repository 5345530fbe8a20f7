"""Run one streams worker: ``python -m streams``. The composition root of the process.

Settings come from the environment: NEXTWATCH_KAFKA_*, NEXTWATCH_QDRANT_*, NEXTWATCH_STREAMS_*,
NEXTWATCH_WINDOW_* and NEXTWATCH_PROCESS_*. Start as many workers as the topics have partitions;
each needs a NEXTWATCH_STREAMS_STATE_DIR of its own.
"""

import argparse
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping

import faust
import structlog
import uvloop
from confluent_kafka import Consumer, Producer

from contract import logging as nextwatch_logging
from contract import preflight, readiness
from contract.clock import system_clock
from contract.events import BundleAnnouncement
from contract.kafka import consumer_config, producer_config
from contract.outbox import Outbox
from contract.process import ExitCode, code_of, told_in_one_line
from contract.settings import (
    KafkaSettings,
    ProcessSettings,
    QdrantSettings,
    Settings,
    load,
    usage,
)
from contract.topics import WINDOWS
from models import bundle as bundles
from models.history import WindowPolicy
from models.settings import WindowSettings
from streams import app as faust_app
from streams import liveness
from streams import serving as serving_module
from streams.asked import Asked
from streams.batches import BatchProcessor
from streams.changelog import Changelog, LoggedWindow
from streams.fence import Fence
from streams.index import VectorIndex
from streams.intake import Intake
from streams.partitions import Partitions, rocks_opener
from streams.recommend import Recommender
from streams.retrieval import Retrieval
from streams.settings import StreamsSettings
from streams.stages import Stages
from streams.standby import Standby, Yielding
from streams.store import RocksMemory
from streams.tail import Follower, Tail, announcer
from streams.text_index import TextIndex
from streams.trending import Trending

log = structlog.get_logger()

GROUPS: tuple[type[Settings], ...] = (
    *(KafkaSettings, QdrantSettings, ProcessSettings),
    *(WindowSettings, StreamsSettings),
)
GC_THRESHOLDS = 20_000, 50, 100
"""A batch makes thousands of objects and no cycles; with Python's 700 the collector takes a third
of the time of encoding (measured)."""

MAX_IDLE_MS = 3 * 86_400_000
"""A store left alone for longer is rebuilt: half of the changelog's delete retention."""


STANDBY_EVERY_S = 2.0
"""How far a warm copy may lag; each refresh is one fetch for each partition."""


def main() -> None:
    """Run the worker until SIGTERM or SIGINT; `contract.process` says what its exit code means."""
    parser = argparse.ArgumentParser(
        prog="python -m streams",
        description=__doc__,
        epilog=usage(*GROUPS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    with told_in_one_line("streams"):
        run(dict(os.environ))


def run(environ: dict[str, str]) -> None:
    """Build everything from *environ* and run the Faust worker."""
    kafka = load(KafkaSettings, environ)
    qdrant = load(QdrantSettings, environ)
    process = load(ProcessSettings, environ)
    settings = load(StreamsSettings, environ)
    policy = load(WindowSettings, environ).policy
    _check_machine(settings, process)
    readiness.withdraw(process.ready_file)
    preflight.check_cluster(kafka, "streams")
    nextwatch_logging.configure(process.log_level)
    uvloop.install()
    gc.set_threshold(*GC_THRESHOLDS)

    switch = serving_module.Switch()
    memory = RocksMemory.of(settings.cache_mb)
    partitions = _partitions(kafka, settings, policy, memory)
    fence = Fence(time.monotonic, limit_s=kafka.session_timeout_ms / 2_000)
    index = VectorIndex(qdrant, patience_ms=settings.index_patience_ms)
    retrieval = Retrieval(
        index,
        num_ranked=settings.num_candidates,
        num_trending=settings.num_trending,
        monotonic=time.monotonic,
        is_in_memory=settings.search == "memory",
    )
    taken_down: set[str] = set()
    texts = TextIndex() if settings.search_share else None
    intake = Intake(partitions, layout=kafka.layout, clock=system_clock, app_id=settings.app_id)
    stages = Stages(time.thread_time, time.monotonic)
    processor = BatchProcessor(
        intake,
        partitions,
        _recommender(settings, switch, retrieval, Trending(taken_down), texts),
        Outbox(Producer(producer_config(kafka))),
        fence,
        layout=kafka.layout,
        policy=policy,
        stages=stages,
    )
    stop = threading.Event()
    tail = threading.Thread(
        target=_follow,
        args=(kafka, qdrant, settings, switch, taken_down, texts, stop),
        name="tail",
        daemon=True,
    )
    tail.start()
    app = faust_app.build(
        kafka,
        settings,
        partitions=partitions,
        steps=processor,
        fence=fence,
        on_assigned=lambda: readiness.declare(process.ready_file),
        on_failure=_die,
    )
    if settings.standby_replicas:
        app.standby = _standby(kafka, settings, policy, memory, stop)
    watchdog, end_watch = liveness.start(app, kafka, settings, on_stall=_end_stalled)
    app.health = liveness.server(
        app, watchdog, settings, switch=switch, retrieval=retrieval, index=index
    )
    worker = faust.Worker(app, loglevel="WARNING", redirect_stdouts=False, quiet=True)
    worker.spinner = None  # it would draw into log files, too
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        if ended.code:  # Faust's own services crashed, and it has logged why
            raise SystemExit(ExitCode.FAILED) from ended
        raise
    finally:
        stop.set()
        if app.standby is not None:
            app.standby.close()
        partitions.close()
        end_watch.set()
        log.info("stages_measured", **stages.totals())
        log.info("streams_stopped", mended=dict(intake.mended), **intake.counts, **processor.counts)


def _recommender(
    settings: StreamsSettings,
    switch: serving_module.Switch,
    retrieval: Retrieval,
    trending: Trending,
    texts: TextIndex | None,
) -> Recommender | None:
    if not settings.recommend:
        return None
    num_recommended = settings.num_recommended
    asked = None
    if texts is not None:
        asked = Asked(texts, share=settings.search_share, num_recommended=num_recommended)
    return Recommender(
        switch,
        retrieval,
        trending,
        num_recommended=num_recommended,
        is_coalescing=settings.coalesce,
        clock=system_clock,
        asked=asked,
        skip_weight=settings.skip_weight,
    )


def _check_machine(settings: StreamsSettings, process: ProcessSettings) -> None:
    preflight.check_directory(settings.state_dir, "NEXTWATCH_STREAMS_STATE_DIR")
    preflight.check_ready_file(process.ready_file)
    if settings.http_port is not None:
        preflight.check_port(settings.http_host, settings.http_port, "NEXTWATCH_STREAMS_HTTP_PORT")


def _partitions(
    kafka: KafkaSettings,
    settings: StreamsSettings,
    policy: WindowPolicy,
    memory: RocksMemory,
    *,
    is_wanted: threading.Event | None = None,
) -> Partitions:
    """Return partitions to own; with *is_wanted*, to copy until it is set."""
    changelog = Changelog(
        kafka, kafka.layout.name(WINDOWS), group_id=f"{settings.app_id}-changelog"
    )

    def read(start: Mapping[int, int]) -> Iterator[LoggedWindow]:
        return changelog.read(start, monotonic=time.monotonic)

    return Partitions(
        rocks_opener(settings.state_dir, memory, clock=system_clock, max_idle_ms=MAX_IDLE_MS),
        read if is_wanted is None else Yielding(read, is_wanted),
        policy,
        rewind_records=settings.rewind_records,
        clock=system_clock,
    )


def _standby(
    kafka: KafkaSettings,
    settings: StreamsSettings,
    policy: WindowPolicy,
    memory: RocksMemory,
    stop: threading.Event,
) -> Standby:
    is_wanted = threading.Event()
    copies = _partitions(kafka, settings, policy, memory, is_wanted=is_wanted)
    standby = Standby(copies, is_wanted)

    def run() -> None:
        try:
            standby.run(stop, every_s=STANDBY_EVERY_S)
        except BaseException as error:  # noqa: BLE001 - the thread's outermost frame
            _die(error)

    threading.Thread(target=run, name="standby", daemon=True).start()
    return standby


def _follow(
    kafka: KafkaSettings,
    qdrant: QdrantSettings,
    settings: StreamsSettings,
    switch: serving_module.Switch,
    taken_down: set[str],
    texts: TextIndex | None,
    stop: threading.Event,
) -> None:
    def load_bundle(offer: BundleAnnouncement) -> bundles.Bundle:
        return bundles.load(offer.url, manifest_sha256=offer.manifest_sha256)

    def make_serving(bundle: bundles.Bundle) -> serving_module.Serving:
        serving = serving_module.load(bundle, collection_prefix=qdrant.collection_prefix)
        gc.collect()  # what is garbage now would stay for ever; 1 to 15 ms with 100,000 videos
        gc.freeze()  # a hundred thousand ids that stay: the collector need not look at them again
        return serving

    try:
        follower = Follower(
            switch,
            load_bundle=load_bundle,
            make_serving=make_serving,
            announce=announcer(Outbox(Producer(producer_config(kafka))), kafka.layout),
            taken_down=taken_down,
            clock=system_clock,
            texts=texts,
        )
        config = consumer_config(kafka, group_id=f"{settings.app_id}-tail")
        consumer = Consumer(config)
        tail = Tail(consumer, kafka.layout, follower, monotonic=time.monotonic)
        tail.run(stop.is_set, first_read_s=0.5)
    except BaseException as error:  # noqa: BLE001 - the thread's outermost frame: never die silently
        _die(error)


def _die(error: BaseException) -> None:
    """End the process at once: nothing that failed may be committed by an orderly shutdown."""
    code = code_of(error)
    trace = error if code is ExitCode.FAILED else None
    log.critical("streams_failed", error=f"{type(error).__name__}: {error}", exc_info=trace)
    _exit(code)


def _end_stalled(reason: str) -> None:
    """End the process at once, so that the group gives its partitions to another worker."""
    log.critical("worker_stalled", reason=reason)
    _exit(ExitCode.STALLED)


def _exit(code: ExitCode) -> None:
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
