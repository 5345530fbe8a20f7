"""Run one streams worker: ``python -m streams``. The composition root of the process.

Settings come from the environment: NEXTWATCH_KAFKA_*, NEXTWATCH_QDRANT_*, NEXTWATCH_STREAMS_*,
NEXTWATCH_WINDOW_* and NEXTWATCH_PROCESS_*. Start as many workers as the topics have partitions;
each needs a NEXTWATCH_STREAMS_STATE_DIR of its own.
"""

import argparse
import os
import sys
import threading
import time

import faust
import structlog
import uvloop
from confluent_kafka import Consumer, Producer

from contract import logging as nextwatch_logging
from contract import readiness
from contract.clock import system_clock
from contract.errors import NextwatchError
from contract.events import BundleAnnouncement
from contract.kafka import consumer_config, producer_config
from contract.outbox import Outbox
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
from streams import serving as serving_module
from streams.batches import BatchProcessor
from streams.changelog import Changelog
from streams.fence import Fence
from streams.index import VectorIndex
from streams.partitions import Partitions, rocks_opener
from streams.recommend import Recommender
from streams.retrieval import Retrieval
from streams.settings import StreamsSettings
from streams.store import RocksMemory
from streams.tail import Follower, Tail, announcer

log = structlog.get_logger()

GROUPS: tuple[type[Settings], ...] = (
    *(KafkaSettings, QdrantSettings, ProcessSettings),
    *(WindowSettings, StreamsSettings),
)
TAIL_WAIT_MS = 50
"""Nobody waits for these records by the millisecond, and each idle fetch costs the broker."""

MAX_IDLE_MS = 3 * 86_400_000
"""A store left alone for longer is rebuilt: half of the changelog's delete retention."""


def main() -> None:
    """Run the worker until SIGTERM or SIGINT; exit 1 with one line when it cannot start."""
    parser = argparse.ArgumentParser(
        prog="python -m streams",
        description=__doc__,
        epilog=usage(*GROUPS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    try:
        run(dict(os.environ))
    except NextwatchError as error:
        sys.exit(f"streams: {error}")


def run(environ: dict[str, str]) -> None:
    """Build everything from *environ* and run the Faust worker."""
    kafka = load(KafkaSettings, environ)
    qdrant = load(QdrantSettings, environ)
    process = load(ProcessSettings, environ)
    settings = load(StreamsSettings, environ)
    policy = load(WindowSettings, environ).policy
    nextwatch_logging.configure(process.log_level)
    uvloop.install()
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    readiness.withdraw(process.ready_file)

    switch = serving_module.Switch()
    partitions = _partitions(kafka, settings, policy)
    fence = Fence(time.monotonic, limit_s=kafka.session_timeout_ms / 2_000)
    retrieval = Retrieval(
        VectorIndex(qdrant, patience_ms=settings.index_patience_ms),
        num_near=settings.num_candidates,
        num_trending=settings.num_trending,
        monotonic=time.monotonic,
    )
    processor = BatchProcessor(
        partitions,
        Recommender(
            switch, retrieval, num_recommended=settings.num_recommended, clock=system_clock
        ),
        Outbox(Producer(producer_config(kafka))),
        fence,
        layout=kafka.layout,
        policy=policy,
        clock=system_clock,
        app_id=settings.app_id,
    )
    stop = threading.Event()
    tail = threading.Thread(
        target=_follow, args=(kafka, qdrant, settings, switch, stop), name="tail", daemon=True
    )
    tail.start()
    app = faust_app.build(
        kafka,
        settings,
        partitions=partitions,
        process=processor.process,
        fence=fence,
        on_assigned=lambda: readiness.declare(process.ready_file),
        on_failure=_die,
    )
    worker = faust.Worker(app, loglevel="WARNING", redirect_stdouts=False, quiet=True)
    worker.spinner = None  # it would draw into log files, too
    try:
        worker.execute_from_commandline()
    finally:
        stop.set()
        partitions.close()
        log.info("streams_stopped", **processor.counts)


def _partitions(
    kafka: KafkaSettings, settings: StreamsSettings, policy: WindowPolicy
) -> Partitions:
    changelog = Changelog(
        kafka, kafka.layout.name(WINDOWS), group_id=f"{settings.app_id}-changelog"
    )
    memory = RocksMemory.of(settings.cache_mb)
    return Partitions(
        rocks_opener(settings.state_dir, memory, clock=system_clock, max_idle_ms=MAX_IDLE_MS),
        lambda start: changelog.read(start, monotonic=time.monotonic),
        policy,
        rewind_records=settings.rewind_records,
        clock=system_clock,
    )


def _follow(
    kafka: KafkaSettings,
    qdrant: QdrantSettings,
    settings: StreamsSettings,
    switch: serving_module.Switch,
    stop: threading.Event,
) -> None:
    def load_bundle(offer: BundleAnnouncement) -> bundles.Bundle:
        return bundles.load(offer.url, manifest_sha256=offer.manifest_sha256)

    try:
        follower = Follower(
            switch,
            load_bundle=load_bundle,
            make_serving=lambda bundle: serving_module.load(
                bundle, collection_prefix=qdrant.collection_prefix
            ),
            announce=announcer(Outbox(Producer(producer_config(kafka))), kafka.layout),
            clock=system_clock,
        )
        config = consumer_config(kafka, group_id=f"{settings.app_id}-tail")
        config["fetch.wait.max.ms"] = max(TAIL_WAIT_MS, kafka.fetch_max_wait_ms)
        consumer = Consumer(config)
        tail = Tail(consumer, kafka.layout, follower, monotonic=time.monotonic)
        tail.run(stop.is_set, first_read_s=0.5)
    except BaseException as error:  # noqa: BLE001 - the thread's outermost frame: never die silently
        _die(error)


def _die(error: BaseException) -> None:
    """End the process at once: nothing that failed may be committed by an orderly shutdown."""
    log.critical("streams_failed", error=f"{type(error).__name__}: {error}", exc_info=error)
    sys.stderr.flush()
    os._exit(70)


if __name__ == "__main__":
    main()
