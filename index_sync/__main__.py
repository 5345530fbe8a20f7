"""The index process: ``python -m index_sync``. Its composition root, and nothing else."""

import argparse
import logging
import os
import signal
import sys
from functools import partial
from math import ceil
from pathlib import Path
from threading import Event

import stamina.instrumentation
import structlog
from qdrant_client import QdrantClient

from contract.clock import system_clock
from contract.errors import IndexUnavailable, NextwatchError
from contract.settings import KafkaSettings, ProcessSettings, QdrantSettings, Settings, load
from contract.topics import ITEM_VECTORS, MODEL_BUNDLES, VIDEO_UPLOADS
from index_sync.index import VectorIndex
from index_sync.opened import open_bundle
from index_sync.publisher import Publisher
from index_sync.settings import IndexSettings
from index_sync.shelf import Shelf
from index_sync.source import Source
from index_sync.worker import Worker

log = structlog.get_logger()

LESS_URGENT_FETCH_MS = 50
"""Uploads are fetched as fast as the settings say; the other topics need not be."""

GROUPS: tuple[type[Settings], ...] = (KafkaSettings, QdrantSettings, ProcessSettings, IndexSettings)


def main() -> int:
    """Run until SIGTERM or Ctrl-C; return the exit code."""
    _parser().parse_args()
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        process = load(ProcessSettings, os.environ)
        _configure_logs(process.log_level)
        _run(process, stopping)
    except IndexUnavailable:
        pass  # told to stop while waiting; nothing was committed that is not written
    except NextwatchError as error:
        log.critical("worker_failed", error=type(error).__name__, why=str(error))
        return 1
    return 0


def _run(process: ProcessSettings, stopping: Event) -> None:
    ready = Path(process.ready_file) if process.ready_file else None
    if ready:
        ready.unlink(missing_ok=True)
    settings = load(IndexSettings, os.environ)
    kafka = load(KafkaSettings, os.environ)
    qdrant = load(QdrantSettings, os.environ)
    client = QdrantClient(
        url=qdrant.url,
        api_key=qdrant.api_key.get_secret_value() if qdrant.api_key else None,
        timeout=ceil(qdrant.timeout_ms / 1_000),
        check_compatibility=False,  # it would ask only once, and warn when nobody answers yet
    )
    index = VectorIndex(client, stopping.wait, retry_wait_ms=settings.retry_wait_ms)
    uploads = Source(kafka, VIDEO_UPLOADS)
    announcements = Source(kafka, MODEL_BUNDLES, min_fetch_wait_ms=LESS_URGENT_FETCH_MS)
    vectors = Source(kafka, ITEM_VECTORS, min_fetch_wait_ms=LESS_URGENT_FETCH_MS)
    worker = Worker(
        settings,
        uploads,
        announcements,
        vectors,
        Shelf(index, qdrant.collection_prefix),
        Publisher(kafka, system_clock),
        partial(open_bundle, process.bundle_url),
        system_clock,
    )
    try:
        index.collections()
        worker.start()
        if ready:
            ready.write_text(f"{os.getpid()}\n")
        while not stopping.is_set():
            worker.turn()
    finally:
        for source in (uploads, announcements, vectors):
            source.close()
        index.close()
        log.info("worker_stopped", **worker.counts)


def _configure_logs(level: str) -> None:
    stamina.instrumentation.set_on_retry_hooks([])  # index.py logs an outage once, itself
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _parser() -> argparse.ArgumentParser:
    lines = [
        f"  {group.model_config['env_prefix']}{name.upper()}={field.default}"
        for group in GROUPS
        for name, field in group.model_fields.items()
    ]
    return argparse.ArgumentParser(
        prog="python -m index_sync",
        description="Turn uploads and item vectors into points of the vector index, at once.\n"
        "Run one of it. It needs a broker with the topics (nextwatch topics) and a Qdrant,\n"
        "and may be stopped or killed at any time: it goes on where it was.",
        epilog="environment, with defaults:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


if __name__ == "__main__":
    sys.exit(main())
