"""Write when the watches that are traced were learned (optional).

A restart that learns a batch again writes its spans again.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from contract.kafka.records import Received
from contract.process.tracing import Traced, Tracer, TraceSpan
from contract.wire.events import Watch
from models.features.examples import Example

MAX_WAITING = 10_000
"""Watches that are traced and not learned yet; the oldest beyond are forgotten."""

_Key = tuple[str, str, int]


class LearningTraces:
    """Remembers the traced watches until they are learned."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._waiting: OrderedDict[_Key, Traced] = OrderedDict()

    def note(self, record: Received, event: Watch) -> None:
        """Note a watch that was taken, if it is traced."""
        traced = self._tracer.sampling.of(event.event_id, record.headers)
        if traced is not None:
            self._waiting[event.user_id, event.video_id, event.event_time_ms] = traced
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popitem(last=False)

    @contextmanager
    def learning(self, examples: Sequence[Example]) -> Iterator[None]:
        """Write a span ``learn`` below each traced watch among *examples* once they are learned."""
        keys = ((one.user_id, one.video_id, one.event_time_ms) for one in examples)
        found = [self._waiting.pop(key) for key in keys if key in self._waiting]
        start_ns = self._tracer.now_ns()
        yield
        told = {"nextwatch.batch_size": len(examples)}
        self._tracer.write(
            [
                TraceSpan(
                    "learn", one.place.below(), one.place, start_ns, self._tracer.now_ns(), told
                )
                for one in found
            ]
        )
