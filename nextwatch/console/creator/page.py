"""Answer the page of a creator: upload a video, take one down, and see when that took effect."""

import asyncio
from http import HTTPStatus
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from contract.errors import DecodeError, NextwatchError
from contract.kafka.outbox import Outgoing
from contract.process.clock import Clock
from contract.wire.decoding import decode_value
from contract.wire.events import VideoUpload
from contract.wire.topics import VIDEO_UPLOADS, Layout
from nextwatch.console.creator.uploads import TimedUploads
from nextwatch.console.streaming import STREAM_HEADERS, answer_of, repeated
from nextwatch.gateway.bounds.streams import OpenStreams
from nextwatch.gateway.problems import of_decoding, unavailable
from nextwatch.gateway.reading import EncodedRoute, body_of, path_id
from nextwatch.gateway.sending import EventSender

_EVERY_S = 0.1
_BODY_WITHIN_S = 10.0


class CreatorPage:
    """The requests of the page."""

    def __init__(
        self,
        uploads: TimedUploads,
        sender: EventSender,
        layout: Layout,
        streams: OpenStreams,
        *,
        clock: Clock,
        is_over: asyncio.Event,
    ) -> None:
        self._uploads = uploads
        self._sender = sender
        self._layout = layout
        self._streams = streams
        self._clock = clock
        self._is_over = is_over

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the page."""
        return [
            Route("/console/uploads", self.follow, methods=["GET"]),
            Route("/console/uploads", self.upload, methods=["POST"]),
            EncodedRoute("/console/uploads/{video_id:path}", self.take_down, methods=["DELETE"]),
        ]

    async def follow(self, _request: Request) -> Response:
        """Answer with the stream of the uploads."""

        async def look() -> object:
            return {"uploads": self._uploads.all()}

        events = repeated("uploads", look, every_s=_EVERY_S, is_over=self._is_over)
        return self._streams.answer(events, STREAM_HEADERS)

    async def upload(self, request: Request) -> Response:
        """Send the upload in the body, whose id and time are made here."""
        body = await body_of(request, most=VIDEO_UPLOADS.max_value_bytes, within_s=_BODY_WITHIN_S)
        value = _with_own_fields(body, f"console-{uuid4().hex[:12]}", self._clock())
        try:
            video = decode_value(VIDEO_UPLOADS, VideoUpload, value)
        except DecodeError as error:
            raise of_decoding(error, VideoUpload) from None
        self._uploads.add(video.video_id, video.title)
        await self._send(video.video_id, value)
        return answer_of({"video_id": video.video_id}, HTTPStatus.ACCEPTED)

    async def take_down(self, request: Request) -> Response:
        """Send a tombstone for a video."""
        video_id = path_id(request, "video_id")
        await self._send(video_id, None)
        self._uploads.remove(video_id)
        return answer_of({"video_id": video_id}, HTTPStatus.ACCEPTED)

    async def _send(self, video_id: str, value: bytes | None) -> None:
        name = self._layout.name(VIDEO_UPLOADS)
        try:
            await self._sender.send(Outgoing(name, video_id.encode(), value))
        except NextwatchError as error:
            raise unavailable("kafka", str(error)) from error


def _with_own_fields(body: bytes, video_id: str, now_ms: int) -> bytes:
    """Return *body* with the id and the time; as it is where it is no JSON object."""
    try:
        given = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body
    if not isinstance(given, dict):
        return body
    return msgspec.json.encode(given | {"video_id": video_id, "uploaded_at_ms": now_ms})
