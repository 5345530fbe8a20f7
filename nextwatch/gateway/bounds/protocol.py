"""Speak HTTP to each connection, within bounds.

uvicorn waits for the head of a request, for an idle connection's next one, and for an answer to be
taken, as long as it takes. Here all three are bounded, and so are the head's size and the number of
connections. And it loses the body of a request that offers an upgrade, as every first one of Java's
HttpClient does (h2c).
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from nextwatch.gateway.problems import MEDIA_TYPE, unavailable

MAX_HEAD_BYTES = 65_536
_BODY_AT_END_S = 1.0


class _PlainParser(httptools.HttpRequestParser):
    """httptools' parser, to which an offered upgrade is a header without a meaning (RFC 9110, 7.8).

    httptools ends a request at the head that offers one, whatever body follows. So such a head is
    parsed again without the offer.
    """

    def __init__(self, protocol: "BoundedProtocol") -> None:
        super().__init__(protocol)
        self._protocol = protocol

    @property
    def offers_upgrade(self) -> bool:
        """Whether the request offers an upgrade, which CONNECT does not."""
        return self.should_upgrade() and self.get_method() != b"CONNECT"

    def feed_data(self, data: Any) -> None:
        """Parse *data*; the protocol is told what is in it."""
        while True:
            try:
                super().feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if not self.offers_upgrade:
                    raise
                data = self._plain_head() + data[upgrade.args[0] :]
                super().__init__(self._protocol)  # from the beginning
            else:
                return

    def _plain_head(self) -> bytes:
        version = self.get_http_version().encode()
        begin = b"%b %b HTTP/%b" % (self.get_method(), self._protocol.url, version)
        headers = [b"%b: %b" % one for one in self._protocol.headers if one[0] != b"upgrade"]
        return b"\r\n".join([begin, *headers, b"", b""])


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds; `GatewayServer` sets them on a subclass."""

    request_within_s = 10.0
    max_connections = 500

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or turn it away when there are too many."""
        super().connection_made(transport)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        transport.set_write_buffer_limits(high=0)  # whatever is not taken at once pauses writing
        self._head_bytes = 0
        self._plain_parser = self.parser = _PlainParser(self)
        if len(self.connections) > self.max_connections:
            transport.write(_too_many(self.max_connections))
            transport.close()
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Pass *data* on, unless the head of a request becomes too large."""
        if self.transport.is_closing():
            return
        if self._head_timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self.transport.close()
        elif self._head_timer is None and self._waits_for_nothing():
            self._await_head()  # line breaks before a request begin none

    def on_message_begin(self) -> None:
        """Bound the time of the head of a further request."""
        super().on_message_begin()
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """Note that the head is whole; that of an upgrade comes once more, as a plain one."""
        if not self._plain_parser.offers_upgrade:
            self._forget_head()
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the body is whole."""
        if not self._plain_parser.offers_upgrade:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        self._forget_head()
        self._forget_write()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to take what was written, but not for ever."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.request_within_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: all was taken."""
        self._forget_write()
        super().resume_writing()

    def shutdown(self) -> None:
        """End the connection when its request is answered; a body has a moment left to come."""
        super().shutdown()
        self.loop.call_later(_BODY_AT_END_S, self._end_body)

    def _end_body(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.more_body and not cycle.response_complete:
            self.transport.close()

    def _waits_for_nothing(self) -> bool:
        """Return whether neither a request runs nor a timer of idleness does."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        if cycle is not None and not cycle.response_complete:
            return False
        return self.timeout_keep_alive_task is None and not self.transport.is_closing()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.request_within_s, self.transport.close)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _forget_write(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def _too_many(most: int) -> bytes:
    answer = unavailable("connections", f"{most:,} connections are open already").response()
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {MEDIA_TYPE}\r\nRetry-After: 1\r\n"
    body = bytes(answer.body)
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
