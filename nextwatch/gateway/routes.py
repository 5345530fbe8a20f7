"""Answer requests: each handler reads, sends or looks up, and answers; no other logic is here.

What may wait is bounded: an acknowledgement by ``ack_within_ms``, a recommendation by
``max_wait_ms``, the vector index by ``index_within_ms``.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from contract.errors import DecodeError, IndexUnavailable, NextwatchError
from contract.kafka.outbox import Header, Outgoing
from contract.process.clock import Clock
from contract.wire.decoding import check_not_future, decode_value
from contract.wire.events import (
    Country,
    Event,
    Impressions,
    Label,
    RecommendationRequest,
    Search,
    SimilarVideo,
    VideoUpload,
    Watch,
    encode,
)
from contract.wire.mending import Notes
from contract.wire.topics import RECOMMENDATION_REQUESTS, VIDEO_UPLOADS, Layout, Topic
from nextwatch.gateway.answers import Answers, LatestList
from nextwatch.gateway.bounds.streams import OpenStreams
from nextwatch.gateway.endpoints import (
    ANSWERS_EVENT,
    DEFAULT_NUMBER,
    DEFAULT_WAIT_MS,
    DEFAULT_WINDOW,
    MOST_VIDEOS,
    WINDOWS,
    EventAccepted,
    SimilarAnswer,
    VideoAccepted,
)
from nextwatch.gateway.lists import PublishedLists
from nextwatch.gateway.neighbours import NUM_CONNECTIONS, NeighbourIndex
from nextwatch.gateway.problems import Problem, of_decoding, of_field, problem, unavailable
from nextwatch.gateway.reading import (
    body_of,
    choice_of,
    client_gone,
    event_id_of,
    number_of,
    path_id,
    text_of,
    trace_headers,
)
from nextwatch.gateway.sending import EventSender
from nextwatch.gateway.settings import GatewaySettings

HEARTBEAT_S = 15.0
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Handlers:
    """The handlers of the endpoints, by their names."""

    def __init__(
        self,
        settings: GatewaySettings,
        layout: Layout,
        *,
        sender: EventSender,
        answers: Answers,
        lists: PublishedLists,
        neighbours: NeighbourIndex,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._layout = layout
        self._sender = sender
        self._answers = answers
        self._lists = lists
        self._neighbours = neighbours
        self._clock = clock
        self._streams = OpenStreams(settings.max_streams)
        self._asking = asyncio.Semaphore(NUM_CONNECTIONS)

    async def post_event(self, request: Request, topic: Topic, kind: type[Event]) -> Response:
        """Send the event in the body, as it came, and answer once Kafka has acknowledged it."""
        body = await body_of(
            request, most=topic.max_value_bytes, within_s=self._settings.request_within_ms / 1_000
        )
        notes: Notes = Counter()
        now_ms = self._clock()
        try:
            event = decode_value(topic, kind, body, notes)
            check_not_future(event, ingested_at_ms=now_ms, clock=lambda: now_ms)
        except DecodeError as error:
            raise of_decoding(error, kind) from None
        await self._send(topic, getattr(event, topic.key_field), body, trace_headers(request))
        return _json(_accepted(event, sorted(notes)), HTTPStatus.ACCEPTED)

    async def delete_video(self, request: Request) -> Response:
        """Send a tombstone for a video."""
        video_id = path_id(request, "video_id")
        await self._send(VIDEO_UPLOADS, video_id, None)
        return _json(VideoAccepted(video_id=video_id), HTTPStatus.ACCEPTED)

    async def get_recommendations(self, request: Request) -> Response:
        """Answer with the list that an event caused, or the latest one."""
        user_id, event_id = path_id(request, "user_id"), event_id_of(request)
        wait_ms = min(
            number_of(request, "wait_ms", default=DEFAULT_WAIT_MS, least=0, most=None),
            self._settings.max_wait_ms,
        )
        headers = dict(_HEADERS)
        if event_id is None:
            answer = self._answers.latest(user_id) or await self._asked(
                request, user_id, wait_ms / 1_000
            )
        else:
            with self._answers.expecting(user_id, event_id) as wait:
                answer = await _within(request, wait, wait_ms / 1_000)
            headers[ANSWERS_EVENT] = "true" if answer else "false"
            answer = answer or self._answers.latest(user_id)
        if answer is None:
            raise _none(f"no list of this user is known, and none came within {wait_ms:,} ms")
        return Response(answer.value, headers=headers, media_type="application/json")

    async def follow_recommendations(self, request: Request) -> Response:
        """Answer with the lists of a user as server-sent events, until the client goes."""
        return self._streams.answer(self._events(path_id(request, "user_id")), _HEADERS)

    async def get_similar(self, request: Request) -> Response:
        """Answer with the published list of a video, else with its nearest neighbours."""
        video_id, number = path_id(request, "video_id"), _number(request)
        if published := self._lists.similar(video_id):
            return _json(
                SimilarAnswer(
                    video_id=video_id,
                    source="similar-videos",
                    videos=published.videos[:number],
                    updated_at_ms=published.updated_at_ms,
                )
            )
        try:
            found = await self._nearest(video_id, number)
        except IndexUnavailable as error:
            raise unavailable("index", str(error)) from None
        if found is None:
            raise _none("no list of this video is published, and the index does not have it")
        return _json(SimilarAnswer(video_id=video_id, source="item-index", videos=found))

    async def get_hottest(self, request: Request) -> Response:
        """Answer with a published list of the hottest videos."""
        window = choice_of(request, "window", default=DEFAULT_WINDOW, choices=WINDOWS)
        country = text_of(request, "country", Country)
        category = text_of(request, "category", Label)
        number = _number(request)
        if country is not None and category is not None:
            bound = {"description": "country or category, not both"}
            raise of_field("length", "category", "there is no list of both", bound)
        names = [f"hottest:{window}:all"]
        if country is not None:
            names.insert(0, f"hottest:{window}:country={country}")
        elif category is not None:
            names = [f"hottest:{window}:category={category}"]
        found = next((one for name in names if (one := self._lists.hottest(name))), None)
        if found is None:
            raise _none("no such list: `nextwatch batch hottest --publish` makes them")
        return _json(msgspec.structs.replace(found, videos=found.videos[:number]))

    async def _send(
        self, topic: Topic, key: str, value: bytes | None, headers: Sequence[Header] = ()
    ) -> None:
        name = self._layout.name(topic)
        try:
            await self._sender.send(Outgoing(name, key.encode(), value, headers=[*headers]))
        except NextwatchError as error:
            raise unavailable("kafka", str(error)) from error

    async def _nearest(self, video_id: str, number: int) -> list[SimilarVideo] | None:
        """Ask the index, a few at a time; waiting for a turn counts, so a hung index costs no more.

        Raises:
            IndexUnavailable: it does not answer in time.
        """
        loop, within_s = asyncio.get_running_loop(), self._settings.index_within_ms / 1_000
        deadline_s = loop.time() + within_s
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._asking.acquire()
        except TimeoutError:
            raise IndexUnavailable("too many wait for the index already") from None
        try:
            left_s = deadline_s - loop.time()
            return await run_in_threadpool(
                self._neighbours.nearest, video_id, number, within_s=left_s
            )
        finally:
            self._asking.release()

    async def _asked(self, asking: Request, user_id: str, within_s: float) -> LatestList | None:
        """Return the list that a user is given who asks for one; None if it does not come."""
        if not within_s:
            return None
        request = RecommendationRequest(
            request_id=str(uuid4()), user_id=user_id, event_time_ms=self._clock()
        )
        is_sent = False
        try:
            async with asyncio.timeout(within_s):
                with self._answers.expecting(user_id, request.request_id) as wait:
                    await self._send(RECOMMENDATION_REQUESTS, user_id, encode(request))
                    is_sent = True
                    return await _unless_gone(asking, wait)
        except TimeoutError:
            if not is_sent:
                raise unavailable(
                    "kafka", f"no acknowledgement from Kafka within {within_s:g} s"
                ) from None
            return self._answers.latest(user_id)

    async def _events(self, user_id: str) -> AsyncIterator[bytes]:
        with self._answers.following(user_id) as subscription:
            yield b"retry: 1000\n\n"
            while not subscription.is_over:
                answer = await subscription.next(within_s=HEARTBEAT_S)
                yield _event_of(answer) if answer else b":\n\n"


async def _within(
    request: Request, wait: "asyncio.Future[LatestList | None]", within_s: float
) -> LatestList | None:
    try:
        async with asyncio.timeout(within_s):
            return await _unless_gone(request, wait)
    except TimeoutError:
        return None


async def _unless_gone(
    request: Request, wait: "asyncio.Future[LatestList | None]"
) -> LatestList | None:
    """Return what *wait* brings, None as soon as the client has gone.

    Whoever asks and goes would else leave something behind that no bound of connections counts.
    """
    if not wait.done():
        gone = asyncio.ensure_future(client_gone(request))
        try:
            either: set[asyncio.Future[Any]] = {wait, gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
    return wait.result() if wait.done() else None


def _accepted(event: Event, mended: list[str]) -> msgspec.Struct:
    if isinstance(event, VideoUpload):
        return VideoAccepted(video_id=event.video_id, mended=mended)
    assert isinstance(event, Watch | Search | Impressions)
    if isinstance(event, Impressions):
        return EventAccepted(event_id=event.event_id, mended=mended)
    return EventAccepted(
        event_id=event.event_id,
        recommendations=f"/v1/users/{quote(event.user_id, safe='')}/recommendations"
        f"?event_id={quote(event.event_id, safe='')}",
        mended=mended,
    )


def _event_of(answer: LatestList) -> bytes:
    """Return *answer* as a server-sent event; a line break in JSON is a blank."""
    data = answer.value.replace(b"\r", b" ").replace(b"\n", b" ")
    head = f"event: recommendation\nid: {answer.recommendation_id}\ndata: "
    return head.encode() + data + b"\n\n"


def _number(request: Request) -> int:
    return number_of(request, "number", default=DEFAULT_NUMBER, least=1, most=MOST_VIDEOS)


def _none(detail: str) -> Problem:
    return problem(HTTPStatus.NOT_FOUND, "none", detail, headers={"Retry-After": "1"})


def _json(answer: msgspec.Struct, status: HTTPStatus = HTTPStatus.OK) -> Response:
    body = msgspec.json.encode(answer)
    return Response(body, int(status), _HEADERS, media_type="application/json")
