"""Make HTTP requests over kept connections, with one deadline for a whole answer.

A socket's timeout bounds one read: a server that sends a byte now and then makes an answer last
for ever. So the time that is left is set anew before each read and write. Nothing bounds the
look-up of a name: a connection is opened by a thread that is not waited for longer, and what it
opens too late is kept for the next request.
"""

import io
import selectors
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from threading import Thread
from time import monotonic
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

CONNECT_WITHIN_S = 5.0
MAX_IDLE = 4


class DeadlineSocket:
    """A socket for `http.client` whose calls end by *deadline_s*, of `monotonic`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._has_answered = False
        self._is_read = self._is_closed = False
        self.deadline_s = float("inf")

    def sendall(self, data: bytes) -> None:
        """Send all of *data*.

        Raises:
            TimeoutError: the deadline has come.
        """
        view = memoryview(data)
        while view:
            self._arm()
            view = view[self._socket.send(view) :]

    def recv_into(self, buffer: Any) -> int:
        """Read once into *buffer*.

        Raises:
            TimeoutError: the deadline has come.
        """
        self._arm()
        num_read = self._socket.recv_into(buffer)
        self._has_answered = True
        return num_read

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a file that reads the answer; until it is closed the connection stays open."""
        self._is_read = True
        return io.BufferedReader(_Answer(self))

    def end_answer(self) -> None:
        """Close the connection now if `close` was called while the answer was read."""
        self._is_read = False
        if self._is_closed:
            self._socket.close()

    def is_dropped(self) -> bool:
        """Return whether the server has closed the connection that it answered on before."""
        if not self._has_answered:
            return False  # after a TLS handshake there is something to read that is no end
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            return bool(selector.select(0))

    def close(self) -> None:
        """Close the connection, once the answer is read."""
        self._is_closed = True
        if not self._is_read:
            self._socket.close()

    def _arm(self) -> None:
        left_s = self.deadline_s - monotonic()
        if left_s <= 0:
            raise TimeoutError("no whole answer in time")
        self._socket.settimeout(left_s)


class _Answer(io.RawIOBase):
    """Reads one answer from a `DeadlineSocket`."""

    def __init__(self, sock: DeadlineSocket) -> None:
        self._socket = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._socket.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._socket.end_answer()


class _Connection(NamedTuple):
    """A connection that is open, and its socket."""

    http: HTTPConnection
    sock: DeadlineSocket


def _whole(response: HTTPResponse, max_bytes: int) -> bytes:
    data = response.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise HTTPException(f"an answer of more than {max_bytes} bytes")
    if response.length:
        raise HTTPException(f"an answer that lacks {response.length} bytes")
    return data


class HttpClient:
    """Requests to one server; any number of threads may make them."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._path = parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._headers = dict(headers)
        self._idle: deque[_Connection] = deque()

    def request(
        self, method: str, path: str, body: bytes = b"", *, within_s: float, max_bytes: int
    ) -> tuple[int, bytes]:
        """Return status and body of the answer, which has at most *max_bytes*.

        Raises:
            OSError: no connection, or no whole answer within *within_s*.
            HTTPException: the answer is not HTTP, is cut off, or is longer than *max_bytes*.
        """
        deadline_s = monotonic() + within_s
        ask = partial(self._ask, method, path, body, max_bytes)
        while (kept := self._kept()) is not None:
            kept.sock.deadline_s = deadline_s
            with suppress(ConnectionError):  # the server has just closed it: ask on another one
                return ask(kept)
        opened = self._opened(deadline_s)
        opened.sock.deadline_s = deadline_s
        return ask(opened)

    def close(self) -> None:
        """Close the connections that are kept."""
        while self._idle:
            self._idle.pop().http.close()

    def _ask(
        self, method: str, path: str, body: bytes, max_bytes: int, connection: _Connection
    ) -> tuple[int, bytes]:
        try:
            connection.http.request(method, self._path + path, body or None, self._headers)
            with connection.http.getresponse() as response:
                data = _whole(response, max_bytes)
                is_kept = response.isclosed() and not response.will_close
        except BaseException:
            connection.http.close()
            raise
        if is_kept:
            self._keep(connection)
        else:
            connection.http.close()
        return response.status, data

    def _kept(self) -> _Connection | None:
        """Return a connection that is kept and alive; None when there is none."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread took the last one
                break
            if not connection.sock.is_dropped():
                return connection
            connection.http.close()
        return None

    def _keep(self, connection: _Connection) -> None:
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.http.close()

    def _opened(self, deadline_s: float) -> _Connection:
        opened: Future[_Connection] = Future()
        Thread(target=self._open, args=(opened,), name="index-connect", daemon=True).start()
        try:
            return opened.result(max(0.0, deadline_s - monotonic()))
        except TimeoutError:
            opened.add_done_callback(self._keep_late)
            raise TimeoutError("no connection in time") from None

    def _open(self, opened: "Future[_Connection]") -> None:
        http = HTTPConnection(self._host, self._port, timeout=CONNECT_WITHIN_S)
        if self._tls is not None:
            http = HTTPSConnection(
                self._host, self._port, timeout=CONNECT_WITHIN_S, context=self._tls
            )
        try:
            http.connect()
            sock = DeadlineSocket(http.sock)
            http.sock = cast("Any", sock)
        except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
            http.close()
            opened.set_exception(error)
        else:
            opened.set_result(_Connection(http, sock))

    def _keep_late(self, opened: "Future[_Connection]") -> None:
        if opened.exception() is None:
            self._keep(opened.result())
