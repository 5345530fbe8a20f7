"""An answer comes whole by its deadline, or not at all, whatever the server does."""

import socket
import ssl
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException
from threading import Event, Thread
from time import monotonic, sleep

import pytest

from streams.serving import http_client
from streams.serving.http_client import HttpClient

WITHIN_S = 0.25
SLACK_S = 2.0
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood"


@contextmanager
def serving(answer):
    """Run a server that lets *answer* talk to each connection; yield its URL."""
    stop = Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)

        def talk(connection):
            with connection:
                connection.settimeout(5)
                with suppress(OSError):  # the client has gone
                    answer(connection, stop)

        def accept():
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                Thread(target=talk, args=(connection,), daemon=True).start()

        acceptor = Thread(target=accept)
        acceptor.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            stop.set()
            acceptor.join()


def heard(connection):
    """Read one request; return whether there was one."""
    data = b""
    while not data.endswith(b"\r\n\r\n" if data.startswith(b"GET") else b"\r\n\r\n{}"):
        if not (more := connection.recv(65_536)):
            return False
        data += more
    return True


def always(answer):
    """Return what gives *answer* to each request of a connection."""

    def talk(connection, _stop):
        while heard(connection):
            connection.sendall(answer)

    return talk


def dripping(head, drop):
    """Return what sends *head*, then *drop* again and again, each well within any read timeout."""

    def talk(connection, stop):
        heard(connection)
        connection.sendall(head)
        while not stop.wait(0.02):
            connection.sendall(drop)

    return talk


def ask(url, *, max_bytes=1_000, within_s=WITHIN_S):
    with closing(HttpClient(url, {"api-key": "k"})) as client:
        return client.request("POST", "/x", b"{}", within_s=within_s, max_bytes=max_bytes)


def test_a_good_answer_is_returned():
    with serving(always(GOOD)) as url:
        assert ask(url, within_s=5) == (200, b"good")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nx: ",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["status", "header", "body", "body without a length"],
)
def test_a_server_that_drips_is_given_up_at_the_deadline(head):
    """Each byte came in time, and the answer never: 250 ms became five seconds."""
    with serving(dripping(head, b"H")) as url:
        started_s = monotonic()
        with pytest.raises(OSError, match="time"):
            ask(url, max_bytes=1 << 20)
        assert monotonic() - started_s < WITHIN_S + SLACK_S


def test_a_server_that_drips_chunks_is_given_up_at_the_deadline():
    """Whole chunks, one after the other."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    with serving(dripping(head, b"1\r\nx\r\n")) as url:
        started_s = monotonic()
        with pytest.raises(OSError, match="time"):
            ask(url, max_bytes=1 << 20)
        assert monotonic() - started_s < WITHIN_S + SLACK_S


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n" + b"x" * 2_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2_000,
    ],
    ids=["length", "no length", "chunked"],
)
def test_an_answer_beyond_the_bound_is_not_read_to_its_end(answer):
    with serving(always(answer)) as url, pytest.raises(HTTPException, match="more than 1000"):
        ask(url, within_s=5)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", GOOD[:-1]], ids=str)
def test_an_incomplete_answer_is_an_error(answer):
    def once(connection, _stop):
        heard(connection)
        connection.sendall(answer)

    with serving(once) as url, pytest.raises((OSError, HTTPException)):
        ask(url, within_s=5)


def test_connections_are_kept_and_a_closed_one_is_opened_anew():
    """Qdrant closes what was idle for some seconds: that is no outage."""
    connections = []

    def twice_each(connection, _stop):
        connections.append(connection)
        for _ in range(2):
            heard(connection)
            connection.sendall(GOOD)

    with serving(twice_each) as url, closing(HttpClient(url, {})) as client:
        for _ in range(6):
            answer = client.request("GET", "/x", within_s=5, max_bytes=100)
            assert answer == (200, b"good")
        assert len(connections) == 3


def test_an_answer_that_ends_with_its_connection_is_read_to_its_end():
    """HTTP/1.0, and proxies."""

    def old(connection, _stop):
        heard(connection)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\ngo")
        sleep(0.05)
        connection.sendall(b"od")

    with serving(old) as url:
        assert ask(url, within_s=5) == (200, b"good")


def test_a_name_that_is_looked_up_for_long_is_not_waited_for(monkeypatch):
    """No timeout of a socket bounds it."""

    def slow(*_, **__):
        sleep(4.0)
        raise OSError("no such host")

    monkeypatch.setattr(http_client.HTTPConnection, "connect", slow)
    started_s = monotonic()
    with pytest.raises(TimeoutError):
        ask("http://somewhere.invalid:6333")
    assert monotonic() - started_s < WITHIN_S + SLACK_S


def test_a_connection_that_opens_too_late_serves_the_next_request(monkeypatch):
    """Else an index behind a slow TLS handshake would never be reached."""
    connect = http_client.HTTPConnection.connect

    def slow(connection):
        sleep(0.2)
        connect(connection)

    monkeypatch.setattr(http_client.HTTPConnection, "connect", slow)
    with serving(always(GOOD)) as url, closing(HttpClient(url, {})) as client:
        with pytest.raises(TimeoutError):
            client.request("GET", "/x", within_s=0.05, max_bytes=100)
        sleep(0.4)
        assert client.request("GET", "/x", within_s=0.1, max_bytes=100) == (200, b"good")


def test_https_is_verified():
    """What does not speak TLS gets no API key."""

    def unasked(connection, stop):
        connection.sendall(GOOD)
        stop.wait(5)

    with serving(unasked) as url, pytest.raises(ssl.SSLError):
        ask(url.replace("http:", "https:"), within_s=5)


def test_a_refused_connection_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        ask(f"http://127.0.0.1:{port}", within_s=5)
