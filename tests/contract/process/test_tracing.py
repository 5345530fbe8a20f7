"""Which events are traced, and where they stand in their trace."""

import logging
import socket
import time

import pytest

from contract.process.tracing import HEADER, Sampling, SpanPlace, Tracer, TraceSpan

IDS = [f"event-{number}" for number in range(2_000)]
EVENT = "event-1"
WHOLE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_header_of_a_record_says_where_its_event_stands():
    traced = Sampling(0.0).of(EVENT, [("other", b"x"), (HEADER, WHOLE)])

    assert traced.place == SpanPlace(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)
    assert traced.place.header == (HEADER, WHOLE)
    assert not traced.begins


@pytest.mark.parametrize(
    "value",
    [
        WHOLE[:-2] + b"00",
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01",
    ],
)
def test_a_header_that_is_not_sampled_or_names_nothing_is_not_traced(value):
    assert Sampling(1.0).of(EVENT, [(HEADER, value)]) is None


@pytest.mark.parametrize("value", [None, b"", b"\xff", WHOLE.upper(), WHOLE + b"-more"])
def test_a_header_that_cannot_be_read_counts_as_none(value):
    assert Sampling(0.0).of(EVENT, [(HEADER, value)]) is None
    assert Sampling(1.0).of(EVENT, [(HEADER, value)]).begins


def test_a_share_of_the_events_begin_traces_the_same_in_every_process():
    drawn = [Sampling(0.25).of(one, ()) for one in IDS]

    assert drawn == [Sampling(0.25).of(one, ()) for one in IDS]
    assert 0.2 < sum(one is not None for one in drawn) / len(IDS) < 0.3
    assert all(one.begins for one in drawn if one)
    assert len({one.place for one in drawn if one}) == sum(one is not None for one in drawn)


def test_who_is_traced_at_a_small_share_is_traced_at_a_larger_one():
    small = {one for one in IDS if Sampling(0.1).of(one, ())}

    assert small
    assert small <= {one for one in IDS if Sampling(0.3).of(one, ())}


@pytest.mark.parametrize("is_listening", [True, False])
def test_a_collector_that_does_not_answer_holds_no_process_at_its_end(is_listening, monkeypatch):
    """A process that is killed in the middle of its end has not told its group that it leaves."""
    pytest.importorskip("opentelemetry.sdk", reason="the extra trace is not installed")
    monkeypatch.setattr(logging, "raiseExceptions", False)  # its thread may outlive the test's log
    with socket.create_server(("127.0.0.1", 0)) as collector:
        url = f"http://127.0.0.1:{collector.getsockname()[1]}/v1/traces"
        if not is_listening:
            collector.close()
        tracer = Tracer("streams", url, Sampling(1.0))
        tracer.write([TraceSpan("one", SpanPlace(1, 2), None, 1, 2)])
        began_s = time.monotonic()
        tracer.close()

    assert time.monotonic() - began_s < 5
