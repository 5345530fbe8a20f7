"""The broker goes and comes back: nothing that was acknowledged is lost, and nobody waits long."""

import json
import socket
import threading
import time

import httpx
import pytest

from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from tests.support.stacks import running_stack
from tests.support.web import running_gateway, watch

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240), pytest.mark.long]

ACK_WITHIN_MS = 1_500
SLACK_S = 1.5
"""A machine that does other things answers that much later."""
NUM_SENDERS = 4
PAUSE_S = 0.02


class Audience:
    """Posts events one after another, and notes what became of each."""

    def __init__(self, gateway):
        self._gateway = gateway
        self._is_over = threading.Event()
        self.answers = []
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(NUM_SENDERS)]

    def _send(self, number):
        with httpx.Client(base_url=self._gateway.url, timeout=30) as client:
            while not self._is_over.wait(PAUSE_S):
                event = watch(f"u{number}")
                answer = client.post("/v1/events/watch", json=event)
                self.answers.append((answer, event["event_id"]))

    def num(self, status):
        """Return how many requests were answered with *status* so far."""
        return sum(answer.status_code == status for answer, _ in self.answers)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        for thread in self._threads:
            thread.join()


def test_a_killed_broker_means_503_in_time_and_costs_no_acknowledged_event():
    with (
        running_stack("embedded", processes=("streams",)) as stack,
        running_gateway(stack, ack_within_ms=ACK_WITHIN_MS) as gateway,
    ):
        pid, broker = gateway.child.pid, stack.process("broker")
        known = gateway.post_watch("viewer").json()
        gateway.client.get(known["recommendations"])
        with Audience(gateway) as audience:
            assert eventually(lambda: audience.num(202) > 50)
            broker.kill(is_wanted=True)
            assert eventually(lambda: audience.num(503) >= 2 * NUM_SENDERS)
            assert eventually(lambda: gateway.client.get("/readyz").status_code == 503, within_s=30)
            assert gateway.client.get("/healthz").status_code == 200
            seen = gateway.recommendations("viewer")
            assert (seen.status_code, seen.elapsed.total_seconds() < 1) == (200, True)
            assert gateway.recommendations("nobody").status_code == 503
            num_before = audience.num(202)
            broker.start()
            broker.wait_ready(60)
            assert eventually(lambda: audience.num(202) > num_before + 50, within_s=30)
        accepted = {event_id for answer, event_id in audience.answers if answer.status_code == 202}
        refused = [answer for answer, _ in audience.answers if answer.status_code == 503]
        slowest = max(answer.elapsed.total_seconds() for answer, _ in audience.answers)

        assert {answer.status_code for answer, _ in audience.answers} == {202, 503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert slowest < ACK_WITHIN_MS / 1_000 + SLACK_S
        assert eventually(gateway.is_ready, within_s=30)
        assert gateway.child.pid == pid
        with player_of(stack) as player:

            def lost():
                kept = {json.loads(m.value())["event_id"] for m in player.poll("watch-events")}
                return accepted - kept

            assert eventually(lambda: not lost(), within_s=30), lost()

            def unanswered():
                caused = {e for answer in player.recommendations() for e in answer["caused_by"]}
                return accepted - caused

            assert eventually(lambda: not unanswered(), within_s=60), (len(accepted), unanswered())


def test_an_event_refused_with_503_may_be_sent_again():
    """It may be in Kafka already; by its id it has one effect."""
    with (
        running_stack("embedded", processes=("streams",)) as stack,
        running_gateway(stack, ack_within_ms=ACK_WITHIN_MS) as gateway,
    ):
        event, broker = watch("again"), stack.process("broker")
        broker.kill(is_wanted=True)
        refused = gateway.client.post("/v1/events/watch", json=event)
        broker.start()
        broker.wait_ready(60)

        def is_accepted():
            return gateway.client.post("/v1/events/watch", json=event).status_code == 202

        assert refused.status_code == 503
        assert eventually(is_accepted, within_s=30)

        def is_answered():
            answer = gateway.recommendations("again", event_id=event["event_id"])
            return answer.headers.get("nextwatch-answers-event") == "true"

        assert eventually(is_answered, within_s=30)


def test_a_gateway_ends_in_order_while_viewers_wait_and_follow():
    """SIGTERM: they are answered with what there is, streams end, the exit code is 0."""
    with (
        running_stack("embedded", processes=("streams",)) as stack,
        running_gateway(stack, max_wait_ms=60_000) as gateway,
    ):
        gateway.client.get(gateway.post_watch("viewer").json()["recommendations"])
        path = "/v1/users/viewer/recommendations"
        waiting = f"GET {path}?event_id=never&wait_ms=60000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with (
            socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as waiter,
            gateway.client.stream("GET", f"{path}/stream") as followed,
        ):
            lines = followed.iter_lines()
            assert next(line for line in lines if line.startswith("id:"))
            waiter.sendall(waiting.encode())
            assert httpx.get(f"{gateway.url}/healthz").is_success  # what came before it is read
            started_s = time.monotonic()
            gateway.child.terminate()
            assert list(lines)[-1:] in ([], [""])
            assert waiter.recv(65_536).startswith(b"HTTP/1.1 200")
        assert gateway.child.wait_ended(10)

        assert time.monotonic() - started_s < 8
        assert gateway.child.exit_code == 0
        assert "process_failed" not in gateway.log
