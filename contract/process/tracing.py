"""Follow events through all processes: spans by OpenTelemetry, sent as OTLP over HTTP (optional).

Off unless NEXTWATCH_PROCESS_TRACE_URL is set, for which a process needs ``nextwatch[trace]``.

An event belongs to the trace that the ``traceparent`` header of its record names. Of the events
without that header a share begin traces of their own, whose ids follow from the ids of the events:
every process chooses the same events and gives them the same ids, and none has to tell another.

Source:
    W3C, Trace Context, https://www.w3.org/TR/trace-context/
"""

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from threading import Thread
from typing import NamedTuple

from contract.errors import ContractError
from contract.process.clock import NanosecondClock, system_clock_ns
from contract.process.settings import ProcessSettings

HEADER = "traceparent"
_FORM = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 1
_SHARE_BYTES, _TRACE_BYTES, _SPAN_BYTES = 4, 16, 8
_END_WITHIN_S = 2.0


def is_header(value: bytes) -> bool:
    """Return whether *value* names a trace, as the header `HEADER` of a record or a request."""
    return _FORM.fullmatch(value) is not None


class SpanPlace(NamedTuple):
    """A span by its ids; what it leads to is below it."""

    trace_id: int
    span_id: int

    @property
    def header(self) -> tuple[str, bytes]:
        """The header of a record that the span has led to."""
        return HEADER, f"00-{self.trace_id:032x}-{self.span_id:016x}-{_SAMPLED:02x}".encode()

    def below(self) -> "SpanPlace":
        """Return the place of a new span of the same trace."""
        return SpanPlace(self.trace_id, secrets.randbits(8 * _SPAN_BYTES) or 1)


class Traced(NamedTuple):
    """An event that is traced, and whether it *begins* its trace: its span is to be written."""

    place: SpanPlace
    begins: bool


class TraceSpan(NamedTuple):
    """A stretch of time of a trace, in nanoseconds of the wall clock."""

    name: str
    place: SpanPlace
    parent: SpanPlace | None
    start_ns: int
    end_ns: int
    attributes: Mapping[str, str | int | float] = {}


@dataclass(frozen=True, slots=True)
class Sampling:
    """Decides which events are traced; *share* is of those whose records do not say it."""

    share: float

    def of(self, event_id: str, headers: Sequence[tuple[str, bytes | None]]) -> Traced | None:
        """Return the place of an event; None if it is not traced."""
        for name, value in headers:
            if name == HEADER and (found := _FORM.fullmatch(value or b"")):
                trace_id, span_id, flags = (int(part, 16) for part in found.groups())
                is_traced = trace_id and span_id and flags & _SAMPLED
                return Traced(SpanPlace(trace_id, span_id), begins=False) if is_traced else None
        size = _SHARE_BYTES + _TRACE_BYTES + _SPAN_BYTES
        drawn = blake2b(event_id.encode(), digest_size=size).digest()
        if int.from_bytes(drawn[:_SHARE_BYTES]) >= round(self.share * (1 << 8 * _SHARE_BYTES)):
            return None
        trace_id = int.from_bytes(drawn[_SHARE_BYTES:-_SPAN_BYTES]) or 1
        return Traced(SpanPlace(trace_id, int.from_bytes(drawn[-_SPAN_BYTES:]) or 1), begins=True)


class Tracer:
    """Writes the spans of one process; they are sent by a thread of its own, or dropped."""

    def __init__(
        self, service: str, url: str, sampling: Sampling, now_ns: NanosecondClock = system_clock_ns
    ) -> None:
        """Start the thread that sends to *url*.

        Raises:
            ContractError: the packages of the extra ``trace`` are not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http import trace_exporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        except ImportError:
            raise ContractError(
                "NEXTWATCH_PROCESS_TRACE_URL needs OpenTelemetry: pip install 'nextwatch[trace]'"
            ) from None
        self.sampling, self.now_ns = sampling, now_ns
        self._resource = Resource.create({"service.name": f"nextwatch-{service}"})
        self._exporter = trace_exporter.OTLPSpanExporter(url)
        self._sender = BatchSpanProcessor(self._exporter)

    def write(self, spans: Sequence[TraceSpan]) -> None:
        """Queue *spans*; where nobody takes them the oldest are dropped."""
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415

        def context(place: SpanPlace) -> trace.SpanContext:
            flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
            return trace.SpanContext(*place, is_remote=False, trace_flags=flags)

        for span in spans:
            self._sender.on_end(
                ReadableSpan(
                    span.name,
                    context=context(span.place),
                    parent=context(span.parent) if span.parent else None,
                    resource=self._resource,
                    attributes=span.attributes,
                    start_time=span.start_ns,
                    end_time=span.end_ns,
                )
            )

    def close(self) -> None:
        """Send what was written, for two seconds at most, and end the thread.

        OpenTelemetry's own bounds are no bounds: where no collector answers, it tries for half a
        minute, and longer than a process has to end.
        """
        ending = Thread(target=self._sender.shutdown, name="traces-end", daemon=True)
        ending.start()
        ending.join(_END_WITHIN_S)
        if ending.is_alive():
            self._exporter.shutdown()  # type: ignore[no-untyped-call]


@contextmanager
def tracing(service: str, settings: ProcessSettings) -> Iterator[Tracer | None]:
    """Yield the tracer of a process and close it, or None where it is not to trace.

    Raises:
        ContractError: the packages of the extra ``trace`` are not installed.
    """
    if settings.trace_url is None:
        yield None
        return
    tracer = Tracer(service, settings.trace_url, Sampling(settings.trace_share))
    try:
        yield tracer
    finally:
        tracer.close()
