"""Count the requests of an application, by endpoint and status, and how long they take.

The event loop counts; a scrape may read from any thread.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.metrics.buckets import BucketCounts
from contract.metrics.definitions import REQUEST_SECONDS, REQUESTS
from contract.metrics.metric import MetricSample

ENDPOINT = "nextwatch.endpoint"
"""Where a route writes its name into the scope of a request; the names are few."""
OTHER = "other"
FAILED = 500
"""No document has it, and any endpoint may answer it."""


class RequestCounts:
    """How many requests each endpoint answered with which status, and how fast."""

    def __init__(self, statuses: Mapping[str, Iterable[int]] = {}) -> None:
        """Show the *statuses* of each endpoint from the start, so that the first one is a rise."""
        self._counts: Counter[tuple[str, str]] = Counter(
            {(endpoint, str(status)): 0 for endpoint, each in statuses.items() for status in each}
        )
        self._seconds: dict[str, BucketCounts] = defaultdict(
            lambda: BucketCounts(REQUEST_SECONDS.buckets),
            {endpoint: BucketCounts(REQUEST_SECONDS.buckets) for endpoint in statuses},
        )

    def note(self, endpoint: str, status: int, seconds: float) -> None:
        """Count one answer, *seconds* after its request."""
        self._counts[endpoint, str(status)] += 1
        self._seconds[endpoint].observe(seconds)

    def samples(self) -> Iterator[MetricSample]:
        """Yield the samples of now."""
        for labels, count in self._counts.copy().items():
            yield MetricSample(REQUESTS, count, labels)
        for endpoint, seconds in self._seconds.copy().items():
            yield MetricSample(REQUEST_SECONDS, seconds.snapshot(), (endpoint,))


class RequestMeter:
    """Notes in *counts* each answer of *app* when it begins: a stream may never end."""

    def __init__(self, app: ASGIApp, *, counts: RequestCounts) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = perf_counter()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                endpoint = scope.get(ENDPOINT, OTHER)
                self._counts.note(endpoint, message["status"], perf_counter() - began_s)
            await send(message)

        await self._app(scope, receive, noted)
