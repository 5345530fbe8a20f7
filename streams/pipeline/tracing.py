"""Write what a micro-batch did with the events that are traced (optional).

Below the span of each event is one of its recommendation, ``recommend``, which begins when the
record was written and ends when the answer is acknowledged. Below that are the stages of the batch,
by the names of `streams.pipeline.pipeline`. The recommendation's record, and that of its features,
bear the header that leads on from there.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from contract.kafka.outbox import Header
from contract.kafka.records import Received
from contract.process.tracing import SpanPlace, Traced, Tracer, TraceSpan
from contract.wire.events import Recommendation

_NS_PER_MS = 1_000_000


class BatchTrace:
    """The traced events of one batch, and what was done with them when.

    Every stage has the batch to itself, one after another, in whichever thread.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._events: dict[str, tuple[Traced, int]] = {}
        self._answers: dict[str, SpanPlace] = {}
        self._stages: list[tuple[str, int, int]] = []

    def note(self, record: Received, event_id: str) -> None:
        """Note an event that asks for an answer, if it is traced."""
        traced = self._tracer.sampling.of(event_id, record.headers)
        if traced is not None:
            now_ns, written_ns = self._tracer.now_ns(), record.ingested_at_ms * _NS_PER_MS
            self._events[event_id] = traced, written_ns if 0 < written_ns < now_ns else now_ns

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note when the stage in this block began and ended."""
        start_ns = self._tracer.now_ns()
        yield
        self._stages.append((name, start_ns, self._tracer.now_ns()))

    def headers(self, answer: Recommendation) -> list[Header]:
        """Return what the record of *answer* bears: its place below the first traced cause."""
        traced = [one for one in answer.caused_by if one in self._events]
        for event_id in traced:
            self._answers.setdefault(event_id, self._events[event_id][0].place.below())
        return [self._answers[event_id].header for event_id in traced[:1]]

    def end(self) -> None:
        """Write the spans of the batch, which is acknowledged."""
        spans, end_ns = [], self._tracer.now_ns()
        for event_id, (traced, start_ns) in self._events.items():
            told = {"nextwatch.event_id": event_id}
            if traced.begins:
                spans.append(TraceSpan("event", traced.place, None, start_ns, end_ns, told))
            answer = self._answers.get(event_id)
            if answer is not None:
                spans.append(TraceSpan("recommend", answer, traced.place, start_ns, end_ns, told))
                spans += [
                    TraceSpan(name, answer.below(), answer, begun_ns, ended_ns)
                    for name, begun_ns, ended_ns in self._stages
                ]
        self._tracer.write(spans)
