"""The table of replayed reports, what is printed of it, and what stands before the index."""

import json
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace

import httpx
import pytest

from benchmarks import replay_reports
from benchmarks.reports import index_between
from benchmarks.reports.index_between import IndexBetween
from benchmarks.reports.row import Row
from benchmarks.reports.stage import Seen
from benchmarks.reports.table import NUMBERS, SECTIONS

SEARCH = "/collections/c/points/query/batch"
FOUND = {"result": [{"points": [{"id": 1}]}, {"points": [{"id": 2}]}]}


class Index(BaseHTTPRequestHandler):
    """Answers every request with two results."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(FOUND).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def between():
    server = HTTPServer(("127.0.0.1", 0), Index)
    Thread(target=server.serve_forever, daemon=True).start()
    between = IndexBetween(f"http://127.0.0.1:{server.server_port}")
    yield between
    between.close()
    server.shutdown()
    server.server_close()


def search(between, **headers):
    return httpx.post(between.url + SEARCH, json={}, headers=headers)


def test_every_report_is_one_row_of_its_section():
    """A row with the number of another one would hide what was seen there."""
    assert len(NUMBERS) >= 40
    assert max(Counter(NUMBERS).values()) == 1
    assert {number.split(".")[0] for number in NUMBERS} == set(SECTIONS)


def test_an_error_in_a_row_is_not_right_and_the_next_row_is_replayed(monkeypatch):
    """One broken scenario must not hide what the others show."""
    monkeypatch.setattr(replay_reports, "stage_on", lambda *_: Stage())

    def broken(_stage):
        raise RuntimeError("no answer")

    seen = [
        replay_reports.replay_row(SimpleNamespace(), Row("1.1", "broken", broken)),
        replay_reports.replay_row(
            SimpleNamespace(), Row("1.2", "good", lambda _: Seen(is_right=True, text="ok"))
        ),
    ]

    assert seen == [
        Seen(is_right=False, text="RuntimeError: no answer"),
        Seen(is_right=True, text="ok"),
    ]


def test_the_figures_say_how_many_are_right_and_what_was_seen_in_each_row():
    rows = {
        "1.1": Seen(is_right=True, text="800 of 800 answered"),
        "1.2": Seen(is_right=False, text="answered"),
    }

    assert replay_reports.figures(rows) == {
        "total": 2,
        "right": 1,
        "rows": {
            "1.1": {"right": True, "seen": "800 of 800 answered"},
            "1.2": {"right": False, "seen": "answered"},
        },
    }


def test_answers_of_the_index_pass_unchanged_until_they_are_spoiled(between):
    assert search(between).json() == FOUND

    between.spoil = index_between.one_too_few
    assert search(between).json() == {"result": FOUND["result"][:1]}

    between.spoil = index_between.ids_too_large
    assert search(between).json()["result"][1]["points"][0]["id"] > 1 << 63


def test_a_request_without_the_key_is_refused(between):
    between.spoil = index_between.wants_key("right")

    assert search(between).status_code == 401
    assert search(between, **{"api-key": "wrong"}).status_code == 401
    assert search(between, **{"api-key": "right"}).json() == FOUND


class Stage:
    """Nothing that these rows use."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False
