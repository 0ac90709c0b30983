"""One trace from the caller to the function, and spans at a collector that is really there."""

from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.pretend import launch

from faas.running.outcome import Kind, Outcome
from faas.telemetry.otlp import Collector, exporting
from faas.telemetry.spans import Spans
from faas.telemetry.tracing import read
from faas.vm import Call

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = CALLER[:-1] + "0"


def call(trace_id=""):
    return Call("r1", b"{}", 0, "arn:aws:lambda:us-east-1:000000000000:function:f", trace_id)


@asynccontextmanager
async def collecting(status=200):
    got = []

    async def take(request):
        body = ExportTraceServiceRequest.FromString(await request.read())
        got.append((request.path, request.headers.get("x-key"), body))
        return web.Response(status=status)

    application = web.Application()
    application.router.add_post("/v1/traces", take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", got
    finally:
        await runner.cleanup()


def test_without_a_collector_the_callers_trace_goes_on_with_a_span_of_its_own():
    with Spans().invocation(launch(), call(CALLER)) as span:
        told = read(span.header)
    assert told.id == read(CALLER).id
    assert told.span != read(CALLER).span
    assert told.sampled


def test_a_call_without_a_trace_gets_a_new_one_that_nobody_keeps():
    with Spans().invocation(launch(), call()) as one, Spans().invocation(launch(), call()) as two:
        assert read(one.header).id != read(two.header).id
        assert not read(one.header).sampled


async def test_spans_reach_the_collector_with_the_callers_trace_and_what_came_of_it():
    async with collecting() as (url, got):
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b"}
        async with exporting(Collector.of(environ)) as spans:
            with spans.invocation(launch("f", "3"), call(CALLER)) as span:
                told = read(span.header)
                span.ended(Outcome(b"", "Unhandled", Kind.COLD, error_type="Sandbox.Timedout"))
            with spans.invocation(launch(), call(UNSAMPLED)) as span:
                assert not read(span.header).sampled
            with spans.invocation(launch(), call()) as fresh:
                assert read(fresh.header).sampled
    [(path, key, body)] = got
    assert (path, key) == ("/v1/traces", "a b")
    [resource] = body.resource_spans
    named = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert named["service.name"] == "wherry-faas"
    first, second = resource.scope_spans[0].spans
    assert first.trace_id.hex() == told.id == read(CALLER).id
    assert first.span_id.hex() == told.span
    assert first.parent_span_id.hex() == read(CALLER).span
    assert (first.status.code, first.status.message) == (2, "Sandbox.Timedout")
    known = {each.key: each.value for each in first.attributes}
    assert known["faas.invocation_id"].string_value == "r1"
    assert known["faas.coldstart"].bool_value is True
    assert known["faas.max_memory"].int_value == 128 << 20
    assert first.end_time_unix_nano >= first.start_time_unix_nano
    assert second.parent_span_id == b""


async def test_a_collector_that_refuses_costs_spans_and_nothing_else():
    async with (
        collecting(status=503) as (url, _),
        exporting(Collector(url + "/v1/traces")) as spans,
    ):
        with spans.invocation(launch(), call(CALLER)) as span:
            assert read(span.header).sampled


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:4318"])
def test_a_collector_is_an_http_url(url):
    with pytest.raises(ValueError, match="expected an http"):
        Collector(url)


def test_without_the_variable_nothing_is_exported():
    assert Collector.of({}) is None
    own = Collector.of({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/own"})
    assert own.url == "http://c/own"
