"""Spans of invocations to an OpenTelemetry collector: OTLP over HTTP.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp and
https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from opentelemetry import trace as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.util.re import parse_env_headers

from faas.running.outcome import Outcome
from faas.telemetry.spans import Span, Spans, attributes, onward, told
from faas.telemetry.tracing import Trace, read
from faas.vm import Call, Launch

_SHUTDOWN_MS = 2000


@dataclass(frozen=True, slots=True)
class Collector:
    """Where spans are sent.

    Attributes:
        url: ``http`` or ``https``, with the path.
        headers: Sent with each batch.
        timeout: Seconds for one batch.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 5.0

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError(f"trace collector {self.url!r}: expected an http or https URL")

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Collector | None":
        """Return what OpenTelemetry's variables name; None: nothing is exported.

        Raises:
            ValueError: It is no URL.
        """
        url = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
        if not url and (base := environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")):
            url = base.rstrip("/") + "/v1/traces"
        if not url:
            return None
        told = environ.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or environ.get(
            "OTEL_EXPORTER_OTLP_HEADERS", ""
        )
        return cls(url, parse_env_headers(told, liberal=True))

    def exporter(self) -> SpanExporter:
        """Return what sends batches there; one that the collector does not take is dropped."""
        # slow to load, and rarely needed
        from opentelemetry.exporter.otlp.proto.http import trace_exporter  # noqa: PLC0415

        return trace_exporter.OTLPSpanExporter(
            endpoint=self.url, headers=self.headers, timeout=self.timeout
        )


@asynccontextmanager
async def exporting(collector: Collector | None) -> AsyncIterator[Spans]:
    """Enter with spans that go to ``collector``; None: nowhere. On exit what waits is sent.

    At most 2048 spans wait; further ones are dropped, as OpenTelemetry's batches do.
    """
    if collector is None:
        yield Spans()
        return
    provider = TracerProvider(
        resource=Resource.create({"service.name": "wherry-faas"}), shutdown_on_exit=False
    )
    provider.add_span_processor(
        BatchSpanProcessor(collector.exporter(), export_timeout_millis=_SHUTDOWN_MS)
    )
    try:
        yield Exported(provider.get_tracer("wherry.faas"))
    finally:
        await asyncio.to_thread(provider.shutdown)


class Exported(Spans):
    """Makes a span of each invocation whose trace is sampled; a new trace always is."""

    def __init__(self, tracer: otel.Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def invocation(self, launch: Launch, call: Call) -> Iterator[Span]:
        """See `Spans.invocation`."""
        caller = read(call.trace_id)
        parent = otel.set_span_in_context(NonRecordingSpan(_context(caller))) if caller else None
        with self._tracer.start_as_current_span(
            launch.function,
            context=parent,
            kind=SpanKind.SERVER,
            attributes=attributes(launch, call),
        ) as span:
            own = span.get_span_context()
            trace = onward(caller, f"{own.span_id:016x}")
            sampled = own.trace_flags.sampled
            yield _Recorded(Trace(f"{own.trace_id:032x}", trace.span, sampled, trace.lineage), span)


class _Recorded(Span):
    def __init__(self, trace: Trace, span: otel.Span) -> None:
        super().__init__(trace)
        self._span = span

    def ended(self, outcome: Outcome) -> None:
        """See `Span.ended`."""
        self._span.set_attributes(told(outcome))
        if outcome.error is not None:
            self._span.set_status(StatusCode.ERROR, outcome.error_type)


def _context(trace: Trace) -> SpanContext:
    flags = TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT
    return SpanContext(int(trace.id, 16), int(trace.span, 16), True, TraceFlags(flags))
