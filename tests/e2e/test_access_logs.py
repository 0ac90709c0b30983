"""A real Envoy reports, and `/metrics` shows every request once, under its true name."""

import asyncio
import socket
from collections import Counter
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from support.envoy import envoy

from telemetry.app import Settings, running
from wherry.clock import SystemClock
from wherry.serve import Address, bound, listening

pytestmark = pytest.mark.e2e

TYPE = "type.googleapis.com/envoy.extensions"
HTTP2 = f"""
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": {TYPE}.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}"""


def listener(name, tags, routes):
    return f"""
  - name: {name}
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          access_log:
          - name: envoy.access_loggers.http_grpc
            typed_config:
              "@type": {TYPE}.access_loggers.grpc.v3.HttpGrpcAccessLogConfig
              additional_request_headers_to_log: [content-type]
              common_config:
                log_name: wherry
                transport_api_version: V3
                grpc_service: {{envoy_grpc: {{cluster_name: telemetry}}}}
                buffer_flush_interval: 0.1s
                custom_tags: {tags}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: {routes}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": {TYPE}.filters.http.router.v3.Router}}"""


def literal(tag, value):
    return f"{{tag: {tag}, literal: {{value: {value}}}}}"


OUTBOUND_TAGS = f"""
                - {literal("reporter", "source")}
                - {literal("source", "web")}
                - {literal("source_version", "v1")}
                - {{tag: destination, value: "%METADATA(CLUSTER:wherry:service)%"}}
                - tag: destination_version
                  metadata:
                    kind: {{host: {{}}}}
                    metadata_key: {{key: wherry, path: [{{key: version}}]}}
                    default_value: unknown"""
INBOUND_TAGS = f"""
                - {literal("reporter", "destination")}
                - tag: source
                  request_header: {{name: x-wherry-source, default_value: unknown}}
                - {literal("destination", "entries")}
                - {literal("destination_version", "v2")}"""
OUTBOUND_ROUTES = """
              - {match: {prefix: /dead}, route: {cluster: dead}}
              - {match: {prefix: /refused}, route: {cluster: refused}}
              - {match: {prefix: /entries}, route: {cluster: entries}}"""
INBOUND_ROUTES = """
              - {match: {prefix: /}, route: {cluster: entries}}"""


def endpoint(port, metadata=""):
    address = f"{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}"
    return f"[{{lb_endpoints: [{{{metadata}endpoint: {{address: {address}}}}}]}}]"


def cluster(name, endpoints, rest=""):
    return f"""
  - name: {name}
    type: STATIC
    metadata: {{filter_metadata: {{wherry: {{service: {name}}}}}}}{rest}
    load_assignment: {{cluster_name: {name}, endpoints: {endpoints}}}"""


def bootstrap(app, closed, logs):
    version = "metadata: {filter_metadata: {wherry: {version: v2}}}, "
    return (
        "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n"
        "node: {id: sidecar~web-v1-1, cluster: web}\n"
        "static_resources:\n  listeners:"
        + listener("outbound", OUTBOUND_TAGS, OUTBOUND_ROUTES)
        + listener("inbound", INBOUND_TAGS, INBOUND_ROUTES)
        + "\n  clusters:"
        + cluster("entries", endpoint(app, version))
        + cluster("dead", "[]")
        + cluster("refused", endpoint(closed, version))
        + cluster("telemetry", endpoint(logs), HTTP2)
    )


@asynccontextmanager
async def entries():
    """Run a service that knows one path and yield its port."""

    async def answer(_):
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/entries", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    sock = listening("entries", Address())
    await web.SockSite(runner, sock).start()
    try:
        yield bound(sock).port
    finally:
        await runner.cleanup()


@pytest.fixture
def closed_port():
    """A port that refuses connections: bound, and nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
async def mesh(tmp_path, closed_port):
    async with (
        running(Settings(), clock=SystemClock()) as telemetry,
        entries() as app,
        envoy(bootstrap(app, closed_port, telemetry.grpc.port), tmp_path) as ports,
        aiohttp.ClientSession() as session,
    ):

        async def get(listener, path, **headers):
            async with session.get(
                f"http://127.0.0.1:{ports[listener]}{path}", headers=headers
            ) as response:
                return response.status

        async def samples(name, *, until):
            """Scrape until the sum of ``name`` is at least ``until``."""
            found = []
            async with asyncio.timeout(20):
                while sum(s.value for s in found) < until:
                    await asyncio.sleep(0.02)
                    found = await scrape(session, f"{telemetry.http.url}/metrics", name)
            return found

        yield ports, get, samples


async def scrape(session, url, name):
    async with session.get(url) as response:
        families = text_string_to_metric_families(await response.text())
    return [s for family in families for s in family.samples if s.name == name]


def by(samples, *labels):
    counts = Counter()
    for sample in samples:
        counts[tuple(sample.labels[label] for label in labels)] += sample.value
    return counts


async def test_every_request_is_counted_once_with_its_source_destination_version_and_code(mesh):
    _, get, samples = mesh
    for path, status, times in (
        ("/entries", 200, 23),
        ("/entries/none", 404, 7),
        ("/dead", 503, 5),
        ("/refused", 503, 3),
        ("/nowhere", 404, 2),
    ):
        for _ in range(times):
            assert await get("outbound", path) == status
    found = await samples("istio_requests_total", until=40)
    labels = ("destination_service", "destination_version", "response_code", "response_flags")
    assert by(found, *labels) == {
        ("entries", "v2", "200", "-"): 23,
        ("entries", "v2", "404", "-"): 7,
        ("dead", "unknown", "503", "UH"): 5,
        ("refused", "v2", "503", "UF"): 3,
        ("unknown", "unknown", "404", "NR"): 2,
    }
    assert by(found, "reporter", "source_workload", "request_protocol") == {
        ("source", "web-v1", "http"): 40
    }
    durations = await samples("istio_request_duration_milliseconds_count", until=40)
    assert by(durations, *labels) == by(found, *labels)


async def test_the_service_called_reports_who_called_as_the_callers_envoy_says(mesh):
    _, get, samples = mesh
    for _ in range(4):
        await get("inbound", "/entries", **{"x-wherry-source": "web"})
    await get("inbound", "/entries")
    await get("inbound", "/entries", **{"content-type": "application/grpc"})
    found = await samples("istio_requests_total", until=6)
    assert by(found, "reporter", "source_app", "destination_workload", "request_protocol") == {
        ("destination", "web", "entries-v2", "http"): 4,
        ("destination", "unknown", "entries-v2", "http"): 1,
        ("destination", "unknown", "entries-v2", "grpc"): 1,
    }


async def test_a_header_that_is_no_utf8_costs_no_other_request_its_count(mesh):
    ports, get, samples = mesh
    await get("inbound", "/entries", **{"x-wherry-source": "web"})
    reader, writer = await asyncio.open_connection("127.0.0.1", ports["inbound"])
    writer.write(b"GET /entries?\xff HTTP/1.1\r\nhost: e\xff\r\nx-wherry-source: \xff\r\n\r\n")
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 ")
    writer.close()
    await writer.wait_closed()
    await get("inbound", "/entries", **{"x-wherry-source": "web"})
    found = await samples("istio_requests_total", until=2)
    assert by(found, "source_app")[("web",)] == 2


async def test_envoy_reports_again_when_telemetry_comes_back(tmp_path):
    async with entries() as app, aiohttp.ClientSession() as session:
        async with running(Settings(), clock=SystemClock()) as first:
            address = first.grpc
        async with envoy(bootstrap(app, app, address.port), tmp_path) as ports:
            url = f"http://127.0.0.1:{ports['outbound']}/entries"
            async with session.get(url) as response:
                assert response.status == 200
            async with (
                running(Settings(grpc=address), clock=SystemClock()) as second,
                asyncio.timeout(20),
            ):
                found = []
                while not found:
                    async with session.get(url) as response:
                        assert response.status == 200
                    page = f"{second.http.url}/metrics"
                    found = await scrape(session, page, "istio_requests_total")
