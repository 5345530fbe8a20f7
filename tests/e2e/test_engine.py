"""A Docker engine counts only when it can start the images of the tests."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parents[2]


@contextmanager
def engine(*, images=(), registry=()):
    """A Docker engine that has *images*, and reaches a registry that offers those of *registry*."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.partition("/images/")[2] or self.path.partition("/distribution/")[2]
            name = name.removesuffix("/json")
            if self.path.endswith(("/version", "/_ping")):
                self.answer(200, {"ApiVersion": "1.44", "MinAPIVersion": "1.24"})
            elif "/images/" in self.path:
                self.answer(
                    200 if name in images else 404, {"Id": name, "message": "no such image"}
                )
            else:
                self.answer(200 if name in registry else 500, {"message": "no route to registry"})

        def answer(self, status, body):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"tcp://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def ask(docker_host, *images):
    """Ask whether *images* can be started, as the tests' stacks do."""
    env = {**os.environ, "DOCKER_HOST": docker_host}
    return subprocess.run(
        [sys.executable, "-m", "tests.support.docker_engine", *images],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("place", ["images", "registry"])
def test_an_image_that_is_present_or_offered_can_be_started(place):
    with engine(**{place: ("a/kafka:1",)}) as docker_host:
        assert ask(docker_host, "a/kafka:1").returncode == 0


def test_an_engine_that_cannot_pull_is_told_in_one_line():
    """As behind a company's proxy: the engine answers, and no registry does."""
    with engine(images=("a/kafka:1",)) as docker_host:
        answer = ask(docker_host, "a/kafka:1", "b/index:1")

    assert answer.returncode == 1
    assert answer.stdout == "the Docker engine cannot pull b/index:1 (APIError)\n"


def test_no_engine_is_told():
    answer = ask("tcp://127.0.0.1:1", "a/kafka:1")

    assert (answer.returncode, answer.stdout) == (1, "no Docker engine answers\n")
