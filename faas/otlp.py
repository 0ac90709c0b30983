"""Spans of invocations to an OpenTelemetry collector: OTLP over HTTP, as JSON.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp and
https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.error import URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from opentelemetry import trace as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from faas.outcome import Outcome
from faas.spans import Span, Spans, attributes, onward, told
from faas.tracing import Trace, read
from faas.vm import Call, Launch

logger = logging.getLogger(__name__)

_KINDS = {kind: number for number, kind in enumerate(SpanKind, 1)}
_STATUS = {StatusCode.UNSET: 0, StatusCode.OK: 1, StatusCode.ERROR: 2}
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
        pairs = (part.split("=", 1) for part in told.split(",") if "=" in part)
        return cls(url, {unquote(name).strip(): unquote(value).strip() for name, value in pairs})


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
        BatchSpanProcessor(OtlpJson(collector), export_timeout_millis=_SHUTDOWN_MS)
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


class OtlpJson(SpanExporter):
    """Sends batches of spans; a batch that the collector does not take is dropped.

    Runs on the thread of OpenTelemetry's batches, never on the event loop.
    """

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter.export`."""
        request = Request(  # noqa: S310
            self._collector.url,
            data=json.dumps(document(spans)).encode(),
            headers={**self._collector.headers, "Content-Type": "application/json"},
        )
        try:
            with urlopen(request, timeout=self._collector.timeout):  # noqa: S310
                pass
        except (URLError, OSError) as error:
            if not self._failing:
                logger.warning("spans not exported", extra={"error": str(error)})
            self._failing = True
            return SpanExportResult.FAILURE
        self._failing = False
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """See `SpanExporter.shutdown`."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """See `SpanExporter.force_flush`; nothing waits here."""
        return True


def document(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """Return spans as an ExportTraceServiceRequest in JSON."""
    resource = spans[0].resource.attributes if spans else {}
    scope = {"scope": {"name": "wherry.faas"}, "spans": [_span(span) for span in spans]}
    return {
        "resourceSpans": [
            {"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope]}
        ]
    }


def _span(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    assert context is not None  # noqa: S101
    found: dict[str, Any] = {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes(span.attributes or {}),
        "events": [
            {
                "timeUnixNano": str(event.timestamp),
                "name": event.name,
                "attributes": _attributes(event.attributes or {}),
            }
            for event in span.events
        ],
        "status": {"code": _STATUS[span.status.status_code]},
    }
    if span.status.description:
        found["status"]["message"] = span.status.description
    if span.parent is not None:
        found["parentSpanId"] = f"{span.parent.span_id:016x}"
    return found


def _attributes(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in given.items()]


def _value(value: object) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case _:
            return {"stringValue": str(value)}


def _context(trace: Trace) -> SpanContext:
    flags = TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT
    return SpanContext(int(trace.id, 16), int(trace.span, 16), True, TraceFlags(flags))
