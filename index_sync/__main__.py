"""Write uploads and item vectors to the vector index; the composition root of the process.

Run one of it: ``python -m index_sync``. It needs a broker with the topics (nextwatch topics) and a
Qdrant, and may be stopped or killed at any time: it goes on where it was.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import Event

import structlog
from confluent_kafka import Producer

from contract.cluster import preflight
from contract.cluster.watch import ClusterWatch, Ending
from contract.errors import ContractError, IndexUnavailable
from contract.kafka.client import producer_config
from contract.kafka.outbox import Outbox
from contract.points import owner
from contract.process import readiness
from contract.process.clock import system_clock
from contract.process.entrypoint import run_process
from contract.process.exit_codes import code_of
from contract.process.settings import (
    KafkaSettings,
    ProcessSettings,
    QdrantSettings,
    Settings,
    load,
    variables,
)
from contract.status.status_server import StatusServer
from contract.wire.topics import ITEM_VECTORS, MODEL_BUNDLES, VIDEO_UPLOADS
from index_sync.background import Background
from index_sync.bundles.loaded_bundle import open_bundle
from index_sync.collections.collections import GenerationCollections
from index_sync.collections.index import VectorIndex, connected
from index_sync.publisher import Publisher
from index_sync.settings import IndexSettings
from index_sync.source import Source
from index_sync.stopping import stop_on_signals, stop_soon
from index_sync.worker import Worker
from models.bundle import bundle_store

log = structlog.get_logger()

LINGER_MS = 2.0
SETTLE_S = 35.0  # a little more than the producer's own delivery timeout
BACKGROUND_WITHIN_S = 1.0
"""How long the end waits for the background, where a store may not answer for minutes; less than
`index_sync.stopping.STOP_WITHIN_S`, and an error is told only after it."""

GROUPS: tuple[type[Settings], ...] = (KafkaSettings, QdrantSettings, ProcessSettings, IndexSettings)


def main() -> None:
    """Run until SIGTERM or SIGINT; `contract.process.exit_codes` defines the exit codes."""
    stopping = Event()
    stop_on_signals(stopping)
    run_process("index_sync", partial(run, stopping=stopping), description=__doc__, settings=GROUPS)


def run(environ: Mapping[str, str], *, stopping: Event) -> None:
    """Build everything from *environ* and keep the index until *stopping* is set."""
    kafka = load(KafkaSettings, environ)
    qdrant = load(QdrantSettings, environ)
    process = load(ProcessSettings, environ)
    settings = load(IndexSettings, environ)
    variable = variables(IndexSettings)["http_port"]
    with StatusServer(
        "index_sync", host=settings.http_host, port=settings.http_port, variable=variable
    ) as server:
        _run(kafka, qdrant, process, settings, server, stopping)


def _run(
    kafka: KafkaSettings,
    qdrant: QdrantSettings,
    process: ProcessSettings,
    settings: IndexSettings,
    server: StatusServer,
    stopping: Event,
) -> None:
    preflight.check_ready_file(process.ready_file)
    bundle_store.check_url(process.bundle_url)
    readiness.withdraw(process.ready_file)
    cluster = preflight.check_cluster(kafka, "index_sync")
    uploads = Source(kafka, VIDEO_UPLOADS)
    index = VectorIndex(
        connected(qdrant),
        stopping.wait,
        retry_wait_ms=settings.retry_wait_ms,
        owner=owner(uploads.cluster_id(), kafka.topic_prefix),
        refusal=qdrant.refusal,
    )
    collections = GenerationCollections(index, qdrant.prefix(kafka))
    announcements = Source(kafka, MODEL_BUNDLES)
    vectors = Source(kafka, ITEM_VECTORS)
    background = Background(ThreadPoolExecutor(1, "background").submit)
    worker = Worker(
        settings,
        uploads,
        announcements,
        vectors,
        collections,
        Publisher(
            Outbox(Producer(producer_config(kafka, linger_ms=LINGER_MS)), timeout_s=SETTLE_S),
            kafka.layout,
            system_clock,
        ),
        partial(open_bundle, process.bundle_url),
        background,
        system_clock,
    )
    ready, ending = readiness.ReadyFile(process.ready_file), Ending()

    def end(error: ContractError) -> None:
        ending.note(error)
        stop_soon(stopping, code_of(error))

    watch = ClusterWatch(cluster.look, on_end=end, on_change=ready.note)
    watch.start()
    started = Event()
    server.show(
        conditions={
            "started": lambda: "" if started.is_set() else "it reads the catalogue",
            "cluster_fits": lambda: watch.reason,
            "index_reachable": lambda: index.outage.reason,
        },
        metrics=lambda: worker.metrics.samples(
            worker.counts.copy(),
            catalogue=worker.catalogue,
            held=worker.held,
            is_building=lambda: worker.building is not None,
            num_failed=lambda: index.outage.num_failed,
        ),
    )
    try:
        with suppress(IndexUnavailable):  # it is time to stop; nothing is half done
            collections.claim()
            worker.start()
            ready.declare()
            started.set()
            while not stopping.is_set():
                worker.turn()
    finally:
        stopping.set()  # nothing in the background waits on for the index
        watch.stop()
        for source in (uploads, announcements, vectors):
            source.close()
        background.wait_for_all(within_s=BACKGROUND_WITHIN_S)
        index.close()
        log.info("index_sync_stopped", **worker.counts)
    ending.check()


if __name__ == "__main__":
    main()
