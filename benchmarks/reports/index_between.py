"""An HTTP proxy between a worker and the index that changes the answers."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep
from typing import Any, NamedTuple

import httpx

LOOPBACK = "127.0.0.1"
_PASS_S = 30.0


class Asked(NamedTuple):
    """A request that came in; the names of *headers* are in small letters."""

    method: str
    path: str
    headers: Mapping[str, str]


class IndexAnswer(NamedTuple):
    """The answer to send: whole, or a byte every *drip_s* seconds, after *delay_s*."""

    status: int
    body: bytes
    delay_s: float = 0.0
    drip_s: float = 0.0


Spoil = Callable[[Asked, IndexAnswer], IndexAnswer]


def pass_on(_asked: Asked, answer: IndexAnswer) -> IndexAnswer:
    """Leave the *answer* as it is."""
    return answer


class IndexBetween:
    """Listens on a free port; *spoil* may be changed at any time."""

    def __init__(self, target_url: str, spoil: Spoil = pass_on) -> None:
        self.spoil = spoil
        self._target_url = target_url
        self._client = httpx.Client(timeout=_PASS_S)
        self._server = ThreadingHTTPServer((LOOPBACK, 0), partial(_Handler, self))
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def answer(self, asked: Asked, body: bytes) -> IndexAnswer:
        """Return the index's answer, spoiled."""
        response = self._client.request(
            asked.method,
            self._target_url + asked.path,
            content=body,
            headers={"content-type": "application/json"},
        )
        return self.spoil(asked, IndexAnswer(response.status_code, response.content))

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._client.close()


class _Handler(BaseHTTPRequestHandler):
    """One connection, kept open from request to request."""

    protocol_version = "HTTP/1.1"

    def __init__(self, between: IndexBetween, *arguments: Any) -> None:
        self._between = between
        super().__init__(*arguments)

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self._between.answer(Asked(self.command, self.path, headers), body)
        sleep(answer.delay_s)
        self.send_response(answer.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        try:
            if answer.drip_s:
                for byte in answer.body:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    sleep(answer.drip_s)
            else:
                self.wfile.write(answer.body)
        except OSError:  # nobody waits any more
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _serve

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def is_search(asked: Asked) -> bool:
    """Return whether *asked* is a search of streams."""
    return asked.path.endswith("/points/query/batch")


def one_too_few(asked: Asked, answer: IndexAnswer) -> IndexAnswer:
    """Leave out the answer to the last of the searches."""
    if not is_search(asked):
        return answer
    found = json.loads(answer.body)
    found["result"] = found["result"][:-1]
    return answer._replace(body=json.dumps(found).encode())


def ids_too_large(asked: Asked, answer: IndexAnswer) -> IndexAnswer:
    """Give every point an id that no 64-bit number with a sign can hold."""
    if not is_search(asked):
        return answer
    found = json.loads(answer.body)
    for result in found["result"]:
        for point in result["points"]:
            point["id"] = (1 << 63) + 7
    return answer._replace(body=json.dumps(found).encode())


def dripping(asked: Asked, answer: IndexAnswer) -> IndexAnswer:
    """Send the answer to a search a byte at a time, each within the time of one read."""
    return answer._replace(drip_s=0.1) if is_search(asked) else answer


def wants_key(key: str) -> Spoil:
    """Return what refuses every request without the API key *key*."""

    def refuse(asked: Asked, answer: IndexAnswer) -> IndexAnswer:
        if asked.headers.get("api-key") == key:
            return answer
        return IndexAnswer(401, b"Must provide an API key or an Authorization bearer token")

    return refuse
