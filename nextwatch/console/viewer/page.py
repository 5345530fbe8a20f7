"""Answer the page of a viewer: the feed of a user as it comes, what the user did, and why.

What the viewer does goes through the routes of the gateway, as any player's events do.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from contract.errors import NewerFormatError
from contract.kafka.records import Headers
from contract.process.clock import Clock
from contract.wire.events import Recommendation
from contract.wire.identifiers import UUID_BODY
from contract.wire.keys import partition_of
from contract.wire.stages import stages_of
from contract.wire.topics import WINDOWS
from contract.wire.words import DEGRADED, SOURCES
from models.history.history import Window, WindowPolicy
from nextwatch.console.catalogue import KnownVideos, VideoCard
from nextwatch.console.streaming import HEARTBEAT_S, STREAM_HEADERS, answer_of, event_of
from nextwatch.console.topics_work import TopicsWork
from nextwatch.console.viewer.people import Deed, UserActivity, deeds_in
from nextwatch.gateway.answers import Answers, LatestList
from nextwatch.gateway.bounds.streams import OpenStreams
from nextwatch.gateway.problems import Problem, problem
from nextwatch.gateway.reading import EncodedRoute, path_id
from nextwatch.operate.scan import Scan
from nextwatch.operate.traces import window_in
from nextwatch.why.lookup import explained


class FeedTold(msgspec.Struct, frozen=True, kw_only=True):
    """A recommendation as the page takes it; *received_ms* is when the console had it."""

    recommendation: Recommendation
    stages: dict[str, float]
    received_ms: int
    videos: dict[str, VideoCard]


class DeedTold(msgspec.Struct, frozen=True, kw_only=True):
    """What the user did, with the videos of it."""

    deeds: list[Deed]
    videos: dict[str, VideoCard]


class ViewerPage:
    """The requests of the page; each stream follows one user."""

    def __init__(
        self,
        answers: Answers,
        people: UserActivity,
        catalogue: KnownVideos,
        work: TopicsWork,
        streams: OpenStreams,
        *,
        bundle_url: str,
        policy: WindowPolicy,
        clock: Clock,
    ) -> None:
        self._answers = answers
        self._people = people
        self._catalogue = catalogue
        self._work = work
        self._streams = streams
        self._bundle_url = bundle_url
        self._policy = policy
        self._clock = clock

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the page."""
        return [
            Route("/console/words", self.get_words, methods=["GET"]),
            Route("/console/users", self.get_users, methods=["GET"]),
            EncodedRoute("/console/users/{user_id:path}/feed", self.follow, methods=["GET"]),
            Route("/console/why/{recommendation_id}", self.get_why, methods=["GET"]),
        ]

    async def get_words(self, _request: Request) -> Response:
        """Answer with the meanings of the words in recommendations."""
        return answer_of({"sources": SOURCES, "degraded": DEGRADED})

    async def get_users(self, _request: Request) -> Response:
        """Answer with the users seen last."""
        return answer_of({"users": self._people.recent()})

    async def follow(self, request: Request) -> Response:
        """Answer with the stream of one user: history, deeds, recommendations."""
        return self._streams.answer(self._events(path_id(request, "user_id")), STREAM_HEADERS)

    async def get_why(self, request: Request) -> Response:
        """Answer with all that is known of one recommendation."""
        wanted = request.path_params["recommendation_id"].lower()
        if not re.fullmatch(UUID_BODY, wanted):
            raise problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_id", "the id is not a UUID")
        layout = self._work.kafka.layout
        told = await self._work(
            lambda scan: explained(
                wanted, scan, layout, bundle_url=self._bundle_url, policy=self._policy
            )
        )
        if told is None:
            raise problem(HTTPStatus.NOT_FOUND, "none", "no such recommendation is kept")
        return answer_of(told)

    async def _events(self, user_id: str) -> AsyncIterator[bytes]:
        with (
            self._answers.following(user_id) as subscription,
            self._people.following(user_id) as deeds,
        ):
            yield b"retry: 1000\n\n"
            sources = Sources(
                {
                    "answer": lambda: subscription.next(within_s=HEARTBEAT_S),
                    "deed": deeds.get,
                    "history": lambda: self._history_of(user_id),
                },
                once={"history"},
            )
            async for name, found in sources.results(until=lambda: subscription.is_over):
                yield self._event(name, found)

    def _event(self, name: str, found: object) -> bytes:
        if isinstance(found, LatestList):
            return event_of("recommendation", self._told(found.value, found.headers))
        if isinstance(found, Deed):
            if found.erased:
                return event_of("erased", {})
            return event_of("deed", self._with_videos([found]))
        if name == "history" and isinstance(found, list):
            return event_of("history", self._with_videos(found))
        return b":\n\n"

    def _told(self, value: bytes, headers: Headers) -> FeedTold:
        recommendation = msgspec.json.decode(value, type=Recommendation)
        return FeedTold(
            recommendation=recommendation,
            stages=stages_of(headers),
            received_ms=self._clock(),
            videos=self._catalogue.of(item.video_id for item in recommendation.items),
        )

    def _with_videos(self, deeds: list[Deed]) -> DeedTold:
        return DeedTold(deeds=deeds, videos=self._catalogue.of(deed.video_id for deed in deeds))

    async def _history_of(self, user_id: str) -> list[Deed] | None:
        """Return what the changelog of windows has of a user; None where it cannot be read."""
        try:
            window = await self._work(lambda scan: self._window_of(user_id, scan))
        except Problem:
            return None
        return [] if window is None else deeds_in(window)

    def _window_of(self, user_id: str, scan: Scan) -> Window | None:
        key = user_id.encode()
        home = partition_of(key, self._work.kafka.layout.num_partitions(WINDOWS))
        newest = None
        for record in scan.read([WINDOWS.name], is_wanted=lambda at: at.partition == home):
            if record.key == key:
                newest = record.value
        try:
            return None if newest is None else window_in(newest)
        except NewerFormatError:
            return None


class Sources:
    """Waits for several things at once, each again and again but those that come *once*."""

    def __init__(
        self, ask: dict[str, Callable[[], Awaitable[object]]], *, once: set[str] | None = None
    ) -> None:
        self._ask = ask
        self._once = once or set()
        self._tasks: dict[str, asyncio.Task[object]] = {}

    async def results(self, *, until: Callable[[], bool]) -> AsyncIterator[tuple[str, object]]:
        """Yield each result with the name of its source."""
        for name in self._ask:
            self._start(name)
        try:
            while not until():
                await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
                for name, task in list(self._tasks.items()):
                    if task.done():
                        del self._tasks[name]
                        if name not in self._once:
                            self._start(name)
                        yield name, task.result()
        finally:
            for task in self._tasks.values():
                task.cancel()

    def _start(self, name: str) -> None:
        async def asked() -> object:
            return await self._ask[name]()

        self._tasks[name] = asyncio.create_task(asked())
