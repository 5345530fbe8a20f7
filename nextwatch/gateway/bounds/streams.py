"""Bound how many streams of server-sent events are open at once.

A stream counts from its answer's first moment: of many requests in one instant none slips by.
"""

from collections.abc import AsyncIterator, Mapping

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from nextwatch.gateway.endpoints import EVENT_STREAM
from nextwatch.gateway.problems import unavailable


class OpenStreams:
    """Counts the streams that are open, of which there are *most*; one event loop asks."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.num_open = 0

    def answer(self, events: AsyncIterator[bytes], headers: Mapping[str, str]) -> Response:
        """Return the answer that sends *events*; to HEAD it is its head alone.

        Return it to Starlette at once: what is awaited in between may let in one too many.

        Raises:
            Problem: too many streams are open already.
        """
        if self.num_open >= self._most:
            raise unavailable("streams", f"{self._most:,} streams are open already")
        return _CountedStream(events, {**headers, "X-Accel-Buffering": "no"}, self)


class _CountedStream(StreamingResponse):
    def __init__(
        self, events: AsyncIterator[bytes], headers: Mapping[str, str], streams: OpenStreams
    ) -> None:
        super().__init__(events, headers=headers, media_type=EVENT_STREAM)
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end, or the client goes."""
        if scope["method"] == "HEAD":  # its connection is wanted for the next request
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        self._streams.num_open += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.num_open -= 1
