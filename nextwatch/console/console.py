"""Put the console together: the gateway, the observer, and a page for each of three people.

The gateway sends events and knows the lists of each user; the observer is that of the demo, which
counts what it reads. Inside the demo it is the demo's own, else the console has one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from threading import Thread
from time import monotonic

import structlog
from confluent_kafka import Message, Producer
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from contract.errors import NextwatchError
from contract.kafka.client import producer_config
from contract.kafka.outbox import Outbox
from contract.kafka.records import Received, received
from contract.metrics.metric import CONSOLE
from contract.process.clock import Clock
from contract.process.settings import KafkaSettings, QdrantSettings
from contract.wire.topics import (
    MODEL_BUNDLES,
    RECOMMENDATIONS,
    SEARCH_EVENTS,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
)
from models.history.history import WindowPolicy
from nextwatch.console.catalogue import KnownVideos
from nextwatch.console.creator.page import CreatorPage
from nextwatch.console.creator.uploads import TimedUploads
from nextwatch.console.guards import guards
from nextwatch.console.newest import NewestRecords
from nextwatch.console.operator.faults import Faults
from nextwatch.console.operator.figures import Figures
from nextwatch.console.operator.lag import LagReader
from nextwatch.console.operator.page import OperatorPage
from nextwatch.console.pages import page_routes
from nextwatch.console.streaming import MAX_STREAMS
from nextwatch.console.topics_work import TopicsWork
from nextwatch.console.viewer.page import ViewerPage
from nextwatch.console.viewer.people import UserActivity
from nextwatch.demo.figures.report import Report
from nextwatch.demo.observer import Observer
from nextwatch.gateway.bounds.streams import OpenStreams
from nextwatch.gateway.gateway import Condition, Gateway, meter
from nextwatch.gateway.problems import (
    Problem,
    answer_failure,
    answer_http_error,
    answer_problem,
)
from nextwatch.gateway.settings import GatewaySettings
from nextwatch.operate.scan import Scan

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class ConsoleParts:
    """What the console is given: where it is connected, and what it shows of a run."""

    kafka: KafkaSettings
    qdrant: QdrantSettings
    gateway: GatewaySettings
    observer: Observer
    report: Callable[[], Report]
    bundle_url: str
    policy: WindowPolicy
    clock: Clock
    on_failure: Callable[[BaseException], None]
    cluster: Condition = str
    erase_within_s: float = 30.0
    faults: Faults | None = None


class Console:
    """The console on *parts*, whose observer may run already.

    What the observer has read before is read once more at the start, where it is needed.
    """

    def __init__(self, parts: ConsoleParts) -> None:
        observer = parts.observer
        self._parts = parts
        self._observer = observer
        self.gateway = Gateway(
            parts.gateway,
            parts.kafka,
            parts.qdrant,
            clock=parts.clock,
            on_failure=parts.on_failure,
            cluster=parts.cluster,
            process=CONSOLE,
        )
        self._work = TopicsWork(parts.kafka)
        self._catalogue = KnownVideos()
        self._newest = NewestRecords(self._apply)
        self._people = UserActivity()
        self._uploads = TimedUploads(observer.probe.index, observer.collection, parts.clock)
        self._figures = Figures(
            observer, parts.report, LagReader(parts.kafka), parts.faults, parts.clock
        )
        self._outbox = Outbox(
            Producer(producer_config(parts.kafka, linger_ms=5) | {"log_level": 0})
        )
        observer.probe.on_found = self._uploads.note_found
        observer.listeners.append(self._take)
        self._is_over: asyncio.Event | None = None
        self._reading = Thread(target=self._read_past, name="console-past", daemon=True)

    def application(self) -> Starlette:
        """Return the web application, which starts and stops what it needs."""
        is_over = self._is_over = asyncio.Event()
        parts, work = self._parts, self._work
        streams = OpenStreams(MAX_STREAMS)
        viewer = ViewerPage(
            self.gateway.answers,
            self._people,
            self._catalogue,
            work,
            streams,
            bundle_url=parts.bundle_url,
            policy=parts.policy,
            clock=parts.clock,
        )
        creator = CreatorPage(
            self._uploads,
            self.gateway.sender,
            parts.kafka.layout,
            streams,
            clock=parts.clock,
            is_over=is_over,
        )
        operator = OperatorPage(
            self._figures,
            work,
            self._outbox,
            parts.faults,
            streams,
            erase_within_s=parts.erase_within_s,
            clock=parts.clock,
            is_over=is_over,
        )
        app = Starlette(
            routes=[
                *page_routes(),
                *viewer.routes(),
                *creator.routes(),
                *operator.routes(),
                *self.gateway.routes(),
            ],
            middleware=[meter(self.gateway), *guards()],
            exception_handlers={
                Problem: answer_problem,
                HTTPException: answer_http_error,
                Exception: answer_failure,
            },
            lifespan=self._lifespan,
        )
        app.router.redirect_slashes = False
        return app

    def end_streams(self) -> None:
        """End what waits and what follows; the event loop calls this before it stops."""
        self.gateway.answers.close()
        self._work.close()
        if self._is_over is not None:
            self._is_over.set()

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._people.open()
        self._reading.start()
        self._uploads.start()
        self.gateway.start()
        try:
            yield
        finally:
            self.gateway.stop()
            self._uploads.stop()
            self._figures.close()

    def _read_past(self) -> None:
        """Read the catalogue and the generations up to now; the observer tells what comes."""
        scan = Scan(self._parts.kafka, monotonic=monotonic)
        try:
            for record in scan.read([VIDEO_UPLOADS.name, MODEL_BUNDLES.name]):
                self._newest.take_past(record)
        except NextwatchError as error:
            log.warning("console_past_unread", reason=str(error))
        finally:
            self._newest.end_past()

    def _apply(self, record: Received) -> None:
        if record.partition == record.home:  # else index_sync keeps it as a dead letter
            taking = self._catalogue if record.topic == VIDEO_UPLOADS.name else self._figures
            taking.take(record)

    def _take(self, topic: str, message: Message) -> None:
        """Take a record that the observer has read, in its thread."""
        if topic == RECOMMENDATIONS.name:
            self._uploads.note_answer(message)
            if self._parts.faults is not None:
                self._parts.faults.note_answer(self._parts.clock())
            if message.value() is not None:
                return
        if topic not in _TAKEN:
            return
        record = received(message, self._parts.kafka.layout)
        if topic in (VIDEO_UPLOADS.name, MODEL_BUNDLES.name):
            self._newest.take_live(record)
        else:
            self._people.take(record)


_TAKEN = frozenset(
    topic.name
    for topic in (RECOMMENDATIONS, VIDEO_UPLOADS, MODEL_BUNDLES, WATCH_EVENTS, SEARCH_EVENTS)
)
