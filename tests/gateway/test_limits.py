"""Slow, endless and too many requests cost the gateway little, and others nothing."""

import json
import socket
import time
from contextlib import ExitStack
from http.client import HTTPResponse

import pytest

from benchmarks.stack.waiting import eventually
from tests.support.web import running_gateway, watch

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

REQUEST_WITHIN_MS = 700
MAX_CONNECTIONS = 5


@pytest.fixture(scope="module")
def strict(stack):
    settings = {"request_within_ms": REQUEST_WITHIN_MS, "max_streams": 2}
    with running_gateway(stack, name="strict", **settings) as gateway:
        yield gateway


def connect(gateway):
    """Return an open connection."""
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=10)


def status_of(connection):
    """Return the status of the next response, which is read whole."""
    response = HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status


def received(connection):
    """Return all that comes until the other side closes."""
    parts = []
    while True:
        try:
            part = connection.recv(65_536)
        except ConnectionResetError:
            part = b""
        if not part:
            return b"".join(parts)
        parts.append(part)


def send_all(connection, parts, *, every_s=0.0):
    """Send *parts* one after another; return whether the other side took them all."""
    try:
        for part in parts:
            connection.sendall(part.encode())
            time.sleep(every_s)
    except OSError:
        return False
    return True


def head(length, **headers):
    """Return the head of a request that announces *length* bytes."""
    lines = ["POST /v1/events/watch HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [] if length is None else [f"Content-Length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("begun", [b"", b"POST /v1/events/watch HTTP/1.1\r\nHost: local"])
def test_a_connection_without_a_whole_head_is_closed(strict, begun):
    with connect(strict) as connection:
        started_s = time.monotonic()
        connection.sendall(begun)

        assert received(connection) == b""
        assert time.monotonic() - started_s < REQUEST_WITHIN_MS / 1_000 + 2


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(strict):
    """Each byte on its own would start a timer of idleness anew."""
    with connect(strict) as connection:
        started_s = time.monotonic()
        sent = send_all(connection, map(chr, head(1_000, X_Padding="x" * 1_000)), every_s=0.05)

        assert not sent

        assert time.monotonic() - started_s < REQUEST_WITHIN_MS / 1_000 + 2


def test_a_body_that_does_not_come_is_a_problem_in_time(strict):
    with connect(strict) as connection:
        connection.sendall(head(100) + b'{"event_id"')
        answer = received(connection)

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"application/problem+json" in answer


def test_a_second_request_on_a_connection_has_the_same_bounds(strict):
    with connect(strict) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /heal")
        answer = received(connection)

    assert answer.count(b"HTTP/1.1") == 1


def test_line_breaks_between_requests_keep_no_connection_open(strict):
    """They end the timer of idleness, and begin no request."""
    with connect(strict) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):  # head and body may come apart
            answer += connection.recv(65_536)
        started_s = time.monotonic()
        connection.sendall(b"\r\n")

        assert answer.startswith(b"HTTP/1.1 200")
        assert received(connection) == b""
        assert time.monotonic() - started_s < REQUEST_WITHIN_MS / 1_000 + 2


def test_an_endless_head_is_cut_off(strict):
    with connect(strict) as connection:
        started_s = time.monotonic()
        begun = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "
        sent = send_all(connection, [begun, *["x" * 65_536] * 10_000])

        assert not sent

        assert time.monotonic() - started_s < REQUEST_WITHIN_MS / 1_000 + 2


@pytest.mark.parametrize("size", [65_537, 900_000, 50_000_000])
def test_a_body_that_is_too_large_is_413_with_the_bound(strict, size):
    """The announced length is enough; what is announced as huge is not even read."""
    with connect(strict) as connection:
        connection.sendall(head(size) + b"x" * min(size, 900_000))
        answer = received(connection)

    assert answer.startswith(b"HTTP/1.1 413")
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (told["reason"], told["bound"]["maximum"]) == ("too_large", 65_536)


def test_a_chunked_body_has_the_same_bound(strict):
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    with connect(strict) as connection:
        connection.sendall(head(None, Transfer_Encoding="chunked") + chunk + chunk + b"0\r\n\r\n")
        answer = received(connection)

    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_of_exactly_the_bound_is_accepted(strict):
    event = watch("padded")
    body = json.dumps(event | {"x": ""}).encode()
    body = json.dumps(event | {"x": "a" * (65_536 - len(body))}).encode()

    answer = strict.client.post(
        "/v1/events/watch", content=body, headers={"content-type": "application/json"}
    )

    assert (len(body), answer.status_code) == (65_536, 202)


def test_a_client_that_goes_within_its_body_is_no_failure_of_the_gateway(stack):
    """Whoever likes could fill the log with tracebacks, and set off the alert of failures."""
    with running_gateway(stack, name="hung up on") as gateway:
        with connect(gateway) as connection:
            connection.sendall(head(100) + b'{"event_id"')
            time.sleep(0.1)
        counted = 'nextwatch_http_requests_total{endpoint="post_watch",status="400"} 1.0'
        assert eventually(lambda: counted in gateway.client.get("/metrics").text)

        assert "Traceback" not in gateway.log


def test_a_body_that_does_not_come_is_not_waited_for_at_the_end(stack):
    with running_gateway(stack, name="ending") as gateway, connect(gateway) as connection:
        connection.sendall(head(100) + b'{"event_id"')
        assert eventually(gateway.is_ready)
        began_s = time.monotonic()
        gateway.child.terminate()

        assert gateway.child.wait_ended(20)
        assert time.monotonic() - began_s < 5
        assert "Traceback" not in gateway.log
        assert received(connection) == b""


def test_answers_that_nobody_takes_end_the_connection(strict):
    """A window of no bytes is acknowledged for ever: the place of the connection would be lost."""
    number = 1_000
    with connect(strict) as connection:
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(request * number)
        time.sleep(REQUEST_WITHIN_MS / 1_000 + 2)

        assert received(connection).count(b"HTTP/1.1 200") < number


@pytest.mark.parametrize("framing", ["length", "chunked", "in two pieces"])
def test_an_offer_to_upgrade_costs_no_body(strict, framing):
    """The first request of Java's HttpClient offers HTTP/2 (h2c)."""
    body = json.dumps(watch("u1")).encode()
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2_Settings": "AAEAAE"}
    with connect(strict) as connection:
        if framing == "chunked":
            chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            connection.sendall(head(None, Transfer_Encoding="chunked", **offer) + chunks)
        else:
            begun = 10 if framing == "in two pieces" else len(body)
            connection.sendall(head(len(body), **offer) + body[:begun])
            time.sleep(0.1)
            connection.sendall(body[begun:])
        assert status_of(connection) == 202
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert status_of(connection) == 200


def test_too_many_connections_are_turned_away_and_it_goes_on(stack):
    with running_gateway(stack, name="crowded", max_connections=MAX_CONNECTIONS) as crowded:
        with ExitStack() as connections:
            for _ in range(MAX_CONNECTIONS):  # beside that of the client
                connections.enter_context(connect(crowded))
            turned_away = received(connections.enter_context(connect(crowded)))

        assert turned_away.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 1" in turned_away
        assert eventually(crowded.is_ready)
        assert crowded.post_watch("after").status_code == 202


def test_too_many_streams_are_turned_away(strict):
    path = "/v1/users/followed/recommendations/stream"
    with strict.client.stream("GET", path), strict.client.stream("GET", path):
        answer = strict.client.get(path)

        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"

    def is_free():
        with strict.client.stream("GET", path) as answer:
            return answer.status_code == 200

    assert eventually(is_free)
