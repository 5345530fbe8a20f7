"""Measure the HTTP gateway: from the post of a watch to the list that it caused, at a given rate.

``python -m benchmarks.gateway --rate 50 --seconds 30`` starts broker, index, streams and a gateway
on this machine, posts watches evenly, and asks for the list of each. The last line is JSON.
"""

import argparse
import os
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import local

import httpx
import msgspec
import numpy as np
import psutil

from benchmarks.stack.waiting import eventually
from contract.process.clock import system_clock
from nextwatch.embedded.process.ports import free_ports
from nextwatch.embedded.stack import EmbeddedStack

NUM_USERS = 1_000
NUM_SENDERS = 16
_START_WITHIN_S = 60.0
_SETTLE = 50


class GatewayFigures(msgspec.Struct):
    """Milliseconds of the whole way and of the post alone, and the gateway's share of a core."""

    events: int
    not_answered: int
    accepted_ms: dict[str, float]
    list_ms: dict[str, float]
    cpu_share: float
    resident_mib: float


class HttpViewers:
    """Post a watch and wait for its list, each thread on a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._own = local()

    def watch(self, number: int) -> tuple[float, float] | None:
        """Return the seconds until it was accepted and until the list came; None without one."""
        if not hasattr(self._own, "client"):
            self._own.client = httpx.Client(base_url=self._url, timeout=30)
        client: httpx.Client = self._own.client
        event = {
            "event_id": str(uuid.uuid4()),
            "user_id": f"u{number % NUM_USERS}",
            "video_id": f"v{number % 97}",
            "event_time_ms": system_clock(),
            "watch_ms": 20_000,
            "duration_ms": 30_000,
        }
        began_s = time.monotonic()
        accepted = client.post("/v1/events/watch", json=event)
        accepted_s = time.monotonic()
        answer = client.get(accepted.json()["recommendations"])
        if answer.headers.get("nextwatch-answers-event") != "true":
            return None
        return accepted_s - began_s, time.monotonic() - began_s


def measure(*, rate: float, seconds: float) -> GatewayFigures:
    """Return the figures of a run of *seconds* at *rate* events a second."""
    [port] = free_ports(1)
    with EmbeddedStack(os.environ, processes=("broker", "index", "streams")) as stack:
        argv = [sys.executable, "-m", "nextwatch", "gateway", "--port", str(port)]
        child = stack.add_process("gateway", argv)
        viewers = HttpViewers(f"http://127.0.0.1:{port}")
        if not eventually(lambda: _is_ready(port), within_s=_START_WITHIN_S):
            raise SystemExit(child.log_tail())
        for number in range(_SETTLE):
            viewers.watch(number)
        process = psutil.Process(child.pid)
        process.cpu_percent()
        began_s = time.monotonic()
        with ThreadPoolExecutor(NUM_SENDERS) as pool:
            waiting = []
            for number in range(round(rate * seconds)):
                time.sleep(max(0.0, began_s + number / rate - time.monotonic()))
                waiting.append(pool.submit(viewers.watch, number))
            found = [one.result() for one in waiting]
        share = process.cpu_percent() / 100
        resident_mib = process.memory_info().rss / (1 << 20)
    answered = [one for one in found if one is not None]
    return GatewayFigures(
        events=len(found),
        not_answered=len(found) - len(answered),
        accepted_ms=_percentiles([one[0] for one in answered]),
        list_ms=_percentiles([one[1] for one in answered]),
        cpu_share=round(share, 3),
        resident_mib=round(resident_mib, 1),
    )


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).is_success
    except httpx.TransportError:
        return False


def _percentiles(seconds: list[float]) -> dict[str, float]:
    values = np.percentile(seconds, [50, 95, 99]) * 1_000
    return {f"p{q}": round(float(v), 1) for q, v in zip((50, 95, 99), values, strict=True)}


def main() -> None:
    """Measure once, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rate", type=float, default=50.0, help="events a second (50)")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long (30)")
    given = parser.parse_args()
    print(msgspec.json.encode(measure(rate=given.rate, seconds=given.seconds)).decode())


if __name__ == "__main__":
    main()
