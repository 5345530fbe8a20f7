"""The probe: an upload counts once the index itself returns it."""

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from contract.points import point_id
from contract.process.clock import ManualClock
from contract.process.settings import QdrantSettings
from nextwatch.demo import retrievable
from nextwatch.demo.retrievable import NEAREST, Probe, RestIndex


class StandIn:
    """An index that knows some vectors, and answers what it was told to."""

    def __init__(self):
        self.known = {}
        self.answers = {}

    def vectors(self, collection, point_ids):
        return {point: self.known[point] for point in point_ids if point in self.known}

    def nearest(self, collection, vectors, k):
        return [self.answers.get(tuple(vector), []) for vector in vectors]


@pytest.fixture
def index():
    return StandIn()


@pytest.fixture
def clock():
    return ManualClock(1_000)


@pytest.fixture
def probe(index, clock):
    return Probe(index, clock, lambda: "nextwatch-g1")


def test_upload_is_found_when_its_own_query_returns_it(probe, index, clock):
    """To stand in the index is not enough: the search has to return it."""
    point = point_id("v1")
    probe.add("v1", 900)
    probe.look()
    index.known[point] = [1.0]
    probe.look()
    assert probe.num_waiting == 1
    clock.advance(ms=50)
    index.answers[(1.0,)] = [(point, 1.0)]
    probe.look()

    assert probe.num_waiting == 0
    assert probe.latencies.percentiles(50) == {"p50": 150}


def test_equally_near_videos_do_not_hide_an_upload(probe, index):
    """With more equal vectors than places, which of them are shown says nothing."""
    index.known[point_id("v1")] = [1.0]
    index.answers[(1.0,)] = [(f"twin-{number}", 1.0) for number in range(NEAREST)]
    probe.add("v1", 900)
    probe.look()

    assert probe.num_waiting == 0


def test_farther_videos_do_hide_an_upload(probe, index):
    """Ten others that are nearer than it: it is not retrievable."""
    index.known[point_id("v1")] = [1.0]
    index.answers[(1.0,)] = [(f"other-{number}", 1.0 - number / 10) for number in range(NEAREST)]
    probe.add("v1", 900)
    probe.look()

    assert probe.num_waiting == 1


def test_takedown_is_not_waited_for(probe):
    """A video that was taken down will never be found."""
    probe.add("v1", 900)
    probe.remove("v1")

    assert probe.num_waiting == 0


def test_number_in_flight_is_bounded(probe, monkeypatch):
    """A burst is measured by a part of it, and said to be."""
    monkeypatch.setattr(retrievable, "MOST_IN_FLIGHT", 3)
    for number in range(5):
        probe.add(f"v{number}", 900)

    assert (probe.num_waiting, probe.num_unmeasured) == (3, 2)


def test_nothing_is_asked_before_a_generation_serves(index, clock):
    """Without a collection there is nothing to ask."""
    probe = Probe(index, clock, lambda: None)
    index.known[point_id("v1")] = [1.0]
    probe.add("v1", 900)
    probe.look()

    assert probe.num_waiting == 1


class SecuredIndex(BaseHTTPRequestHandler):
    """Has one point, and answers whoever bears the key."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"result": [{"id": 7}]}'
        self.send_response(200 if self.headers["api-key"] == "a secret" else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("key", "kept"), [("a secret", {7}), (None, None)])
def test_an_index_with_a_key_is_asked_with_it(key, kept):
    """Without it no upload ever is retrievable."""
    with HTTPServer(("127.0.0.1", 0), SecuredIndex) as server:
        Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"

        assert RestIndex(QdrantSettings(url=url, api_key=key)).kept("videos", [7]) == kept
