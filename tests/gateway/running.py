"""Run a gateway beside a stack, and make requests to it."""

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import httpx

from benchmarks.stack.waiting import eventually
from contract.process.clock import system_clock
from nextwatch.embedded.process.ports import free_ports

_START_WITHIN_S = 60


@dataclass
class RunningGateway:
    """A gateway of its own process, and a client of it."""

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

    def recommendations(self, user_id, **parameters):
        """Ask for the list of a user; return the answer."""
        user = httpx.URL(f"/v1/users/{user_id}/recommendations", params=parameters)
        return self.client.get(user)


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


@contextmanager
def running_gateway(stack, *, name="gateway", env=None, **settings):
    """Run ``nextwatch gateway`` with *settings* of NEXTWATCH_GATEWAY_, and yield it when ready."""
    [port] = free_ports(1)
    given = {f"NEXTWATCH_GATEWAY_{key.upper()}": str(value) for key, value in settings.items()}
    given |= {"NEXTWATCH_GATEWAY_PORT": str(port), "NEXTWATCH_PROCESS_LOG_LEVEL": "info"}
    child = stack.add_process(
        name, [sys.executable, "-m", "nextwatch", "gateway"], given | (env or {})
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        gateway = RunningGateway(child, port, client)
        try:
            assert eventually(gateway.is_ready, within_s=_START_WITHIN_S), gateway.log
            yield gateway
        finally:
            child.stop()
