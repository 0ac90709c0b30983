"""What Prometheus reads is clean, exact and named as Istio names it."""

import asyncio
import json

import aiohttp
import grpc
import grpc.aio
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from telemetry import wire
from telemetry.app import Settings, running
from telemetry.edge import OVERFLOW, Edge, Entry
from telemetry.ingest import Ingest
from telemetry.metrics import BUCKETS_MS, Metrics, labels_of
from telemetry.wire import Batch
from wherry.clock import SystemClock
from wherry.errors import PortInUse

METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"


def edge(code=200, *, destination="entries"):
    return Edge("source", "web", "unknown", destination, "v2", code, "http", "-")


def families(metrics):
    _, text = metrics.exposition("")
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


@pytest.fixture
def metrics():
    made = Metrics()
    yield made
    made.close()


def test_requests_are_counted_under_istios_name_and_labels(metrics):
    metrics.record(edge(), [7.0, 8.0])
    metrics.record(edge(), [9.0])
    [sample] = families(metrics)["istio_requests"].samples
    assert (sample.name, sample.value) == ("istio_requests_total", 3)
    assert sample.labels == {
        "reporter": "source",
        "source_workload": "web",
        "source_app": "web",
        "source_version": "unknown",
        "destination_workload": "entries-v2",
        "destination_app": "entries",
        "destination_version": "v2",
        "destination_service": "entries",
        "destination_service_name": "entries",
        "request_protocol": "http",
        "response_code": "200",
        "response_flags": "-",
    }


def test_durations_fall_into_istios_buckets(metrics):
    metrics.record(edge(), [0.4, 0.5, 7.0, 1e9])
    family = families(metrics)["istio_request_duration_milliseconds"]
    assert family.type == "histogram"
    by_name = {}
    for sample in family.samples:
        by_name.setdefault(sample.name.removeprefix(family.name), []).append(sample)
    bounds = {float(s.labels["le"]): s.value for s in by_name["_bucket"]}
    assert list(bounds) == [*BUCKETS_MS, float("inf")]
    below = [bounds[b] for b in (0.5, 5.0, 10.0, 3_600_000.0, float("inf"))]
    assert below == [2, 2, 3, 3, 4]
    assert [s.value for s in by_name["_count"]] == [4]
    assert [s.value for s in by_name["_sum"]] == [1e9 + 7.9]


def test_nothing_of_the_instruments_themselves_is_shown(metrics):
    metrics.record(edge(), [1.0])
    metrics.received("counted", 1)
    _, text = metrics.exposition("")
    assert {line.partition("{")[0].split()[0] for line in text.decode().splitlines()} == {
        "#",
        "istio_requests_total",
        "istio_request_duration_milliseconds_bucket",
        "istio_request_duration_milliseconds_count",
        "istio_request_duration_milliseconds_sum",
        "wherry_access_log_entries_total",
        "wherry_access_log_streams",
    }
    assert b"otel" not in text


def test_a_scraper_that_asks_for_openmetrics_gets_it(metrics):
    metrics.record(edge(), [1.0])
    content_type, text = metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert "istio_requests" in {family.name for family in read_openmetrics(text.decode())}


def test_a_label_may_hold_any_text(metrics):
    odd = edge(destination='a"b\\c\nd\ufffd')
    metrics.record(odd, [1.0])
    [sample] = families(metrics)["istio_requests"].samples
    assert sample.labels["destination_service"] == odd.destination


def test_edges_past_the_limit_are_counted_together_and_none_is_lost():
    ingest = Ingest(max_edges=3)
    entries = tuple(Entry(edge(destination=f"s{n}"), 1.0) for n in range(10))
    ingest.take(Batch("", entries, skipped=2), now=0)
    found = families(ingest.metrics)
    counts = {s.labels["destination_app"]: s.value for s in found["istio_requests"].samples}
    assert counts == {"s0": 1, "s1": 1, "s2": 1, "overflow": 7}
    received = found["wherry_access_log_entries"].samples
    assert {s.labels["result"]: s.value for s in received} == {
        "counted": 3,
        "overflow": 7,
        "skipped": 2,
    }
    assert labels_of(OVERFLOW)["source_workload"] == "overflow"
    ingest.metrics.close()


def test_more_edges_than_the_instruments_expect_by_themselves_stay_apart():
    ingest = Ingest(max_edges=2_500)
    entries = tuple(Entry(edge(destination=f"s{n}"), 1.0) for n in range(2_600))
    ingest.take(Batch("", entries, skipped=0), now=0)
    samples = families(ingest.metrics)["istio_requests"].samples
    assert len(samples) == 2_501
    assert sum(s.value for s in samples) == 2_600
    ingest.metrics.close()


def log(code):
    tags = {"reporter": "source", "source": "web", "destination": "entries"}
    entry = {
        "common_properties": {"custom_tags": tags, "duration": {"nanos": 3_000_000}},
        "response": {"response_code": {"value": code}},
    }
    return wire.MESSAGES["StreamAccessLogsMessage"](
        http_logs={"log_entry": [entry]}
    ).SerializeToString()


@pytest.fixture
async def service():
    async with running(Settings(), clock=SystemClock()) as telemetry:
        yield telemetry


@pytest.fixture
async def page(service):
    async with aiohttp.ClientSession(service.http.url) as session:

        async def get(path, **headers):
            async with session.get(path, headers=headers) as response:
                return response.status, response.headers["Content-Type"], await response.text()

        yield get


async def test_a_stream_is_counted_and_shown(service, page):
    async with grpc.aio.insecure_channel(str(service.grpc)) as channel:
        call = channel.stream_unary(METHOD)(iter([log(200), log(200), log(503)]))
        assert await call == wire.RESPONSE
    status, content_type, text = await page("/metrics")
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    counts = {
        s.labels["response_code"]: s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.name == "istio_requests_total"
    }
    assert counts == {"200": 2, "503": 1}
    assert "wherry_access_log_streams 0.0" in text

    status, content_type, text = await page("/api/edges")
    assert (status, content_type) == (200, "application/json; charset=utf-8")
    [shown] = json.loads(text)["edges"]
    assert (shown["source"], shown["destination"]) == ("web", "entries")
    assert (shown["requests"], shown["errors"]) == (3, 1)
    assert shown["p50"] == pytest.approx(3, rel=0.05)


async def test_a_message_that_cannot_be_read_ends_its_stream_and_no_other(service, page):
    async with grpc.aio.insecure_channel(str(service.grpc)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.stream_unary(METHOD)(iter([log(200), b"\xff"]))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "do not parse, expected protobuf" in refused.value.details()
        await channel.stream_unary(METHOD)(iter([log(200)]))
    _, _, text = await page("/metrics")
    assert 'wherry_access_log_entries_total{result="counted"} 2.0' in text
    assert 'wherry_access_log_entries_total{result="malformed"} 1.0' in text


async def test_streams_and_messages_past_their_limits_are_refused():
    settings = Settings(max_streams=1, max_message_bytes=1024)
    async with (
        running(settings, clock=SystemClock()) as service,
        grpc.aio.insecure_channel(str(service.grpc)) as first,
        grpc.aio.insecure_channel(str(service.grpc), options=[("grpc.test", 1)]) as second,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as too_large:
            await first.stream_unary(METHOD)(iter([b"\x00" * 2048]))
        assert too_large.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        held, done = asyncio.Event(), asyncio.Event()

        async def hold():
            yield log(200)
            held.set()
            await done.wait()

        call = first.stream_unary(METHOD)(hold())
        await held.wait()
        await _until_open(service)
        with pytest.raises(grpc.aio.AioRpcError) as too_many:
            await second.stream_unary(METHOD)(iter([log(200)]))
        assert too_many.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        done.set()
        await call


async def _until_open(service):
    async with asyncio.timeout(10), aiohttp.ClientSession(service.http.url) as session:
        text = ""
        while "wherry_access_log_streams 1.0" not in text:
            async with session.get("/metrics") as response:
                text = await response.text()


async def test_a_port_in_use_is_said_in_one_line(service):
    for part, settings in (
        ("telemetry", Settings(grpc=service.grpc)),
        ("metrics", Settings(http=service.http)),
    ):
        with pytest.raises(
            PortInUse, match=rf"^{part}: 127.0.0.1:\d+ is taken .* --listen {part}="
        ):
            async with running(settings, clock=SystemClock()):
                pass


async def test_the_service_says_that_it_is_well(page):
    assert await page("/healthz") == (200, "text/plain; charset=utf-8", "ok\n")


async def test_two_services_in_one_process_share_nothing(service, page):
    async with running(Settings(), clock=SystemClock()) as other:
        assert other.http != service.http
        async with grpc.aio.insecure_channel(str(other.grpc)) as channel:
            await channel.stream_unary(METHOD)(iter([log(200)]))
        _, _, text = await page("/metrics")
        assert "istio_requests_total{" not in text
