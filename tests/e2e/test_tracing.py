"""A watch, its recommendation and the training step that learned it are one trace."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import pytest

from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from contract.process.clock import system_clock
from contract.process.tracing import HEADER, Sampling
from tests.support.stacks import running_stack

pytest.importorskip("opentelemetry.sdk", reason="the extra trace is not installed")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240), pytest.mark.long]
STAGES = {"decode", "fold", "encode", "search", "rank", "produce", "settle"}


@dataclass
class Collector:
    """Takes spans over HTTP, as a collector of OpenTelemetry does."""

    url: str = ""
    spans: list = field(default_factory=list)

    def of(self, trace_id):
        """Return (service, span) of one trace, given as hexadecimal digits."""
        return [(service, one) for service, one in self.spans if one.trace_id.hex() == trace_id]


@contextmanager
def collector():
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = resource.resource.attributes
                name = next(one.value.string_value for one in service if one.key == "service.name")
                found.spans += [
                    (name, span) for scope in resource.scope_spans for span in scope.spans
                ]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def traced():
    """A stack whose streams and trainer trace, with half of the events that say nothing."""
    with collector() as found:
        settings = {
            "NEXTWATCH_PROCESS_TRACE_URL": found.url,
            "NEXTWATCH_PROCESS_TRACE_SHARE": "0.5",
        }
        with (
            running_stack(
                "embedded",
                publish_every_s=5.0,
                env_of={"streams": settings, "trainer": settings},
            ) as stack,
            player_of(stack) as player,
        ):
            for number in range(4):
                player.upload(f"v{number}")
            player.flush()
            yield found, player


def watched(player, user, headers=(), event_id=None):
    """Watch a video that nobody else watches; return the message of the answer."""
    event_id = event_id or str(uuid4())
    fields = {
        "event_id": event_id,
        "user_id": user,
        "video_id": "v1",
        "event_time_ms": system_clock(),
        "watch_ms": 30_000,
        "duration_ms": 30_000,
    }
    player.produce("watch-events", user, fields, headers=headers)
    player.flush()
    player.answer_to(event_id)
    return event_id, next(
        message
        for message in player.read["recommendations"]
        if event_id.encode() in message.value()
    )


def by_name(spans):
    return {span.name: (service, span) for service, span in spans}


def test_the_trace_of_a_producer_goes_on_to_the_recommendation_and_the_training_step(traced):
    found, player = traced
    trace_id, parent_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

    event_id, answer = watched(
        player, "u-traced", [(HEADER, f"00-{trace_id}-{parent_id}-01".encode())]
    )

    names = {"recommend", "learn"} | STAGES
    assert eventually(lambda: by_name(found.of(trace_id)).keys() == names, within_s=40)
    spans = by_name(found.of(trace_id))
    service, recommend = spans["recommend"]
    assert service == "nextwatch-streams"
    assert recommend.parent_span_id.hex() == parent_id
    assert recommend.attributes[0].value.string_value == event_id
    assert {spans[name][1].parent_span_id for name in STAGES} == {recommend.span_id}
    assert spans["learn"][0] == "nextwatch-trainer"
    assert spans["learn"][1].parent_span_id.hex() == parent_id
    leads_on = f"00-{trace_id}-{recommend.span_id.hex()}-01".encode()
    assert (HEADER, leads_on) in answer.headers()


def test_a_drawn_event_begins_a_trace_that_both_processes_know(traced):
    found, player = traced
    event_id = next(one for one in (str(uuid4()) for _ in range(99)) if Sampling(0.5).of(one, []))
    place = Sampling(0.5).of(event_id, []).place

    watched(player, "u-drawn", event_id=event_id)

    trace_id = f"{place.trace_id:032x}"
    names = {"event", "recommend", "learn"} | STAGES
    assert eventually(lambda: by_name(found.of(trace_id)).keys() == names, within_s=40)
    spans = by_name(found.of(trace_id))
    assert not spans["event"][1].parent_span_id
    assert spans["learn"][1].parent_span_id == spans["event"][1].span_id


def test_an_event_that_is_not_traced_leaves_no_span_and_no_header(traced):
    found, player = traced
    before = len(found.spans)
    header = (HEADER, b"00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-00")

    _, answer = watched(player, "u-untraced", [header])

    assert HEADER not in dict(answer.headers() or ())
    assert len(found.of("0af7651916cd43dd8448eb211c80319d")) == 0
    assert len(found.spans) == before
