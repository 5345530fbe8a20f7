"""Run the gateway or the console beside a stack, and make requests to it."""

import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import httpx

from benchmarks.stack.waiting import eventually
from contract.process.clock import system_clock
from nextwatch.console.guards import OUR_HEADER
from nextwatch.embedded.process.ports import free_ports

_START_WITHIN_S = 60


@dataclass
class RunningApp:
    """A web application in a process of its own, and a client of it."""

    child: object
    port: int
    client: httpx.Client

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self):
        return self.child.log_path.read_text()

    def is_ready(self):
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def post_watch(self, user_id, video_id="v1", **fields):
        """Post a watch; return the answer."""
        return self.client.post("/v1/events/watch", json=watch(user_id, video_id, **fields))

    def watch(self, user_id, video_id, **fields):
        """Post a watch that is accepted; return its id."""
        answer = self.post_watch(user_id, video_id, **fields)
        assert answer.status_code == 202, answer.text
        return answer.json()["event_id"]

    def recommendations(self, user_id, **parameters):
        """Ask for the list of a user; return the answer."""
        user = httpx.URL(f"/v1/users/{user_id}/recommendations", params=parameters)
        return self.client.get(user)

    @contextmanager
    def stream(self, path):
        """Yield an iterator of the events of a stream: name and data."""
        with self.client.stream("GET", path) as answer:
            assert answer.status_code == 200, answer.read()
            yield events_in(answer)


def watch(user_id, video_id="v1", *, event_id=None, **fields):
    """Return a watch of now, as JSON has it."""
    return {
        "event_id": event_id or str(uuid4()),
        "user_id": user_id,
        "video_id": video_id,
        "event_time_ms": system_clock(),
        "watch_ms": 30_000,
        "duration_ms": 30_000,
    } | fields


def events_in(answer):
    """Yield name and data of each server-sent event of *answer*."""
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def running_gateway(stack, *, name="gateway", env=None, **settings):
    """Run ``nextwatch gateway`` with *settings* of NEXTWATCH_GATEWAY_, and yield it when ready."""
    given = {f"NEXTWATCH_GATEWAY_{key.upper()}": str(value) for key, value in settings.items()}
    return _running(stack, "gateway", name, given | (env or {}))


def running_console(stack, *, name="console"):
    """Run ``nextwatch console``, and yield it when ready; its client is one of our pages."""
    return _running(stack, "console", name, {}, headers={OUR_HEADER: "1"})


@contextmanager
def _running(stack, command, name, env, headers=None):
    [port] = free_ports(1)
    given = {
        f"NEXTWATCH_{command.upper()}_PORT": str(port),
        "NEXTWATCH_PROCESS_LOG_LEVEL": "info",
    }
    child = stack.add_process(name, [sys.executable, "-m", "nextwatch", command], given | env)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, headers=headers) as client:
        app = RunningApp(child, port, client)
        try:
            assert eventually(app.is_ready, within_s=_START_WITHIN_S), app.log
            yield app
        finally:
            child.stop()
