"""Run a console beside a stack, and make requests to it."""

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
class RunningConsole:
    """A console of its own process, and a client that says that it is one of our pages."""

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

    def watch(self, user_id, video_id, **fields):
        """Post a watch; return its id."""
        event = {
            "event_id": str(uuid4()),
            "user_id": user_id,
            "video_id": video_id,
            "event_time_ms": system_clock(),
            "watch_ms": 30_000,
            "duration_ms": 30_000,
        } | fields
        answer = self.client.post("/v1/events/watch", json=event)
        assert answer.status_code == 202, answer.text
        return event["event_id"]

    @contextmanager
    def stream(self, path):
        """Yield an iterator of the events of a stream: name and data."""
        with self.client.stream("GET", path) as answer:
            assert answer.status_code == 200, answer.read()
            yield events_in(answer)


def events_in(answer):
    """Yield name and data of each server-sent event of *answer*."""
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


@contextmanager
def running_console(stack, *, name="console"):
    """Run ``nextwatch console`` beside *stack*, and yield it when it is ready."""
    [port] = free_ports(1)
    env = {"NEXTWATCH_CONSOLE_PORT": str(port), "NEXTWATCH_PROCESS_LOG_LEVEL": "info"}
    child = stack.add_process(name, [sys.executable, "-m", "nextwatch", "console"], env)
    headers = {OUR_HEADER: "1"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, headers=headers) as client:
        console = RunningConsole(child, port, client)
        try:
            assert eventually(console.is_ready, within_s=_START_WITHIN_S), console.log
            yield console
        finally:
            child.stop()
