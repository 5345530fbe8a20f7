"""Put the gateway together: a producer, a view of the topics, and the routes over them.

Whoever serves more than the gateway, such as a console, takes `Gateway.routes` into an application
of its own, or gives `application` more routes; `Gateway.answers` has the feed of each user.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from confluent_kafka import Producer
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from contract.kafka.client import producer_config
from contract.metrics.definitions import (
    READY,
    STREAMS_OPEN,
    VIEW_BYTES,
    VIEW_LISTS,
)
from contract.metrics.exposition import Exposition
from contract.metrics.metric import GATEWAY, MetricSample
from contract.process.clock import Clock
from contract.process.settings import KafkaSettings, QdrantSettings
from contract.wire.events import Event
from contract.wire.topics import RECOMMENDATIONS, Topic
from nextwatch.gateway.answers import Answers
from nextwatch.gateway.endpoints import Alive, Endpoint, Ready, endpoints
from nextwatch.gateway.following import ViewReader
from nextwatch.gateway.guards import guards
from nextwatch.gateway.lists import PublishedLists
from nextwatch.gateway.neighbours import NeighbourIndex
from nextwatch.gateway.openapi import document
from nextwatch.gateway.problems import (
    Problem,
    answer_failure,
    answer_http_error,
    answer_problem,
)
from nextwatch.gateway.reading import EncodedRoute
from nextwatch.gateway.routes import Handlers
from nextwatch.gateway.sending import EventSender, sending_bounds
from nextwatch.gateway.settings import GatewaySettings
from nextwatch.request_metrics import ENDPOINT, FAILED, OTHER, RequestCounts, RequestMeter

_MIB = 1 << 20
_UNAVAILABLE = 503

Condition = Callable[[], str]
"""Returns why it does not hold; an empty string when it does."""
Handler = Callable[[Request], Awaitable[Response]]


class EndpointRoute(EncodedRoute):
    """A route that names its endpoint to the meter of requests.

    In the decoded path taking down ``v1/similar`` and a wrong method on ``similar`` are the same.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether this route answers the request of *scope*."""
        match, found = super().matches(scope)
        return match, {**found, ENDPOINT: self.name}


class Gateway:
    """The gateway to one cluster. `start` and `stop` are called in the event loop that serves.

    *on_failure* is told once of what only a new start mends; *cluster* says what is missing there;
    *process* is what metrics call it.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        kafka: KafkaSettings,
        qdrant: QdrantSettings,
        *,
        clock: Clock,
        on_failure: Callable[[BaseException], None],
        cluster: Condition = str,
        process: str = GATEWAY,
    ) -> None:
        self.settings = settings
        self.key = settings.key()
        self.endpoints = endpoints(max_wait_ms=settings.max_wait_ms)
        self.answers = Answers(max_bytes=settings.recommendations_mib * _MIB)
        self.lists = PublishedLists(max_bytes=settings.lists_mib * _MIB)
        self._fail = on_failure
        self._failure = ""
        self._cluster = cluster
        ack_within_s = settings.ack_within_ms / 1_000
        self.sender = EventSender(
            Producer(producer_config(kafka) | sending_bounds(ack_within_s=ack_within_s)),
            ack_within_s=ack_within_s,
            on_failure=self._on_failure,
        )
        self._views = ViewReader(
            kafka,
            self.answers,
            self.lists,
            tail_records=settings.tail_records,
            on_failure=self._on_failure,
        )
        self._neighbours = NeighbourIndex(qdrant, qdrant.prefix(kafka))
        self._handlers = Handlers(
            settings,
            kafka.layout,
            sender=self.sender,
            answers=self.answers,
            lists=self.lists,
            neighbours=self._neighbours,
            clock=clock,
        )
        openapi = document(self.endpoints, has_key=self.key is not None)
        self._openapi = msgspec.json.encode(openapi)
        self.requests = RequestCounts({**documented_statuses(openapi), OTHER: (404, 405, FAILED)})
        self._exposition = Exposition(process)
        self._exposition.show(self.requests.samples, self._samples)

    def start(self) -> None:
        """Begin to read and to send."""
        self.answers.open()
        self.sender.start()
        self._views.start()

    def stop(self) -> None:
        """Stop reading and sending; call it when no request runs any more."""
        self.answers.close()
        self._views.stop()
        self.sender.stop()
        self._neighbours.close()

    def routes(self) -> list[BaseRoute]:
        """Return the routes of all endpoints, and of the OpenAPI document."""
        routes: list[BaseRoute] = [Route("/openapi.json", self._answer_openapi, methods=["GET"])]
        routes += [
            EndpointRoute(each.path, self._handler(each), methods=[each.method], name=each.name)
            for each in self.endpoints
        ]
        return routes

    @property
    def unreadiness(self) -> dict[str, str]:
        """By part why requests cannot be answered; empty when they can."""
        reasons = {"cluster": self._cluster(), "views": self._views.reason, "self": self._failure}
        return {part: reason for part, reason in reasons.items() if reason}

    @property
    def counts(self) -> dict[str, int]:
        """How many records of each topic were read, and how many of all skipped."""
        return self._views.counts

    def _handler(self, endpoint: Endpoint) -> Handler:
        topic = endpoint.topic
        if topic is not None and topic.kind is not None:
            return _with_event(self._handlers, topic, topic.kind)
        found: Handler = getattr(self if endpoint.is_of_process else self._handlers, endpoint.name)
        return found

    async def healthz(self, _request: Request) -> Response:
        """Answer whether the process works: the loop does, else nobody would answer."""
        body = Alive(alive=not self._failure, reason=self._failure or None)
        return _health(body, is_good=body.alive)

    async def readyz(self, _request: Request) -> Response:
        """Answer whether requests can be answered."""
        reasons = self.unreadiness
        return _health(Ready(ready=not reasons, reasons=reasons), is_good=not reasons)

    async def metrics(self, request: Request) -> Response:
        """Answer what Prometheus scrapes."""
        accepted = request.headers.get("accept", "")
        content_type, page = await run_in_threadpool(self._exposition.page, accepted)
        return Response(page, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    def _samples(self) -> Iterator[MetricSample]:
        yield MetricSample(READY, not self.unreadiness)
        yield MetricSample(STREAMS_OPEN, self.answers.num_subscriptions)
        yield from self._views.samples()
        kept = {RECOMMENDATIONS.name: self.answers.memory, **self.lists.memory}
        for topic, (count, num_bytes) in kept.items():
            yield MetricSample(VIEW_LISTS, count, (topic,))
            yield MetricSample(VIEW_BYTES, num_bytes, (topic,))

    async def _answer_openapi(self, _request: Request) -> Response:
        return Response(self._openapi, media_type="application/json")

    def _on_failure(self, error: BaseException) -> None:
        """Note *error*; any thread calls this."""
        if not self._failure:
            self._failure = f"{type(error).__name__}: {error}"
            self._fail(error)


def application(gateway: Gateway, *, more_routes: Sequence[BaseRoute] = ()) -> Starlette:
    """Return the web application of *gateway*, which starts and stops with it."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        gateway.start()
        try:
            yield
        finally:
            gateway.stop()

    app = Starlette(
        routes=[*gateway.routes(), *more_routes],
        middleware=[meter(gateway), *guards(gateway.settings, gateway.key)],
        exception_handlers={
            Problem: answer_problem,
            HTTPException: answer_http_error,
            Exception: answer_failure,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


def documented_statuses(openapi: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return by endpoint the statuses that it may answer with by its document, and a failure."""
    return {
        told["operationId"]: [*map(int, told["responses"]), FAILED]
        for path in openapi["paths"].values()
        for told in path.values()
    }


def meter(gateway: Gateway) -> Middleware:
    """Return what counts the requests of *gateway*; it stands before what turns some away."""
    return Middleware(RequestMeter, counts=gateway.requests)


def _with_event(handlers: Handlers, topic: Topic, kind: type[Event]) -> Handler:
    async def handle(request: Request) -> Response:
        return await handlers.post_event(request, topic, kind)

    return handle


def _health(body: msgspec.Struct, *, is_good: bool) -> Response:
    return Response(
        msgspec.json.encode(body), 200 if is_good else _UNAVAILABLE, media_type="application/json"
    )
